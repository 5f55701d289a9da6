"""A job: data, network, likelihoods, method; and how its options are written (light to import: ``--help`` is quick)."""
