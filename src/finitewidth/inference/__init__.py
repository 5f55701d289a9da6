"""What every method shares: likelihoods, the interface of methods and solutions, predictions and their errors."""
