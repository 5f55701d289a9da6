"""csv files as people have them: delimiters, decimal signs, columns without a name, texts, missing values, .gz.

Files that ``csv`` always read, and what it says of bad cells, are in test_loaders.py.
"""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest

from finitewidth.checks.exceptions import InputError, MemoryCapError
from finitewidth.data import csv, load

HOUSES = "size,rooms,price\n1.5,2,10.5\n2.5,3,20.25\n3.5,3,30\n4,5,40.5\n"
EXPECTED = np.array([[1.5, 2, 10.5], [2.5, 3, 20.25], [3.5, 3, 30], [4, 5, 40.5]])


@pytest.fixture
def written(tmp_path):
    def write(text, name="data.csv"):
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write


def rows(file, target="price", **options):
    """Inputs and targets of the file, in its order."""
    options = {"n_train": 3, "standardise": "none"} | options
    train, test = csv(file, target, **options)
    found = np.vstack([np.column_stack([part.x, part.y]) for part in (train, test)])
    order = np.random.default_rng(options.get("seed", 0)).permutation(len(found))
    return found[np.argsort(order)]


def refusal(file, target="price", **options):
    with pytest.raises(InputError) as caught:
        csv(file, target, **({"n_train": 3} | options))
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.wanted
    return text


class TestDelimiter:
    @pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
    def test_guessed(self, written, delimiter):
        np.testing.assert_array_equal(rows(written(HOUSES.replace(",", delimiter))), EXPECTED)

    def test_tsv(self, written):
        file = written(HOUSES.replace(",", "\t").replace("rooms", "rooms, all"), "data.TSV")
        np.testing.assert_array_equal(rows(file), EXPECTED)
        assert len(load(file, target="price", n_train=3)[0]) == 3

    @pytest.mark.parametrize("change", [("rooms", "rooms, all"), ("rooms", '"rooms, all"'), ("rooms", '"a\nb, c"')])
    def test_a_comma_in_a_name(self, written, change):
        np.testing.assert_array_equal(rows(written(HOUSES.replace(",", ";").replace(*change))), EXPECTED)

    def test_a_reading_without_the_target_is_none(self, written):
        text = "a,b;price\n" + "".join(f"{i},5;{i}\n" for i in range(4))
        np.testing.assert_array_equal(rows(written(text), task="regression")[:, 0], [0.5, 1.5, 2.5, 3.5])

    def test_the_target_tells_the_delimiter(self, written):
        file = written("a,b;c\n" + "1,2;3\n" * 5)
        assert "target = 'price'" in refusal(file)  # the target is in neither
        assert rows(file, "c", task="regression").tolist() == [[1.2, 3]] * 5
        assert "line 2" in refusal(written("a,b;c\n" + "1,2,3\n" * 5), "b;c", task="regression")

    def test_the_file_of_issue_17(self, written):
        # What the message proposed, the target 'size;rooms;price', was refused in turn.
        rng = np.random.default_rng(0).standard_normal((60, 2))
        file = written("size;rooms;price\n" + "".join(f"{a:.3f};{b:.3f};{a + b:.3f}\n" for a, b in rng))
        found = rows(file, n_train=40)
        np.testing.assert_allclose(found[:, :2], rng, atol=5e-4)
        assert "did you mean 'price'" in refusal(file, "prize")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("20.25", "20.25,1"), "line 3 of 4 values"),
            (("size,", "# made by hand\nsize,"), "'# made by hand'"),
        ],
    )
    def test_uneven(self, written, change, message):
        assert message in refusal(written(HOUSES.replace(*change)))

    def test_blank_lines(self, written):
        text = "\n  \n" + HOUSES.replace("\n", "\n\n").replace("4,5", " \n,,\n4,5") + "\n,,\n"
        np.testing.assert_array_equal(rows(written(text)), EXPECTED)


class TestDecimalSign:
    @pytest.mark.parametrize("delimiter", [";", "\t", "|"])
    def test_comma(self, written, delimiter):
        text = HOUSES.replace(",", delimiter).replace(".", ",")
        np.testing.assert_array_equal(rows(written(text)), EXPECTED)

    def test_quoted_commas_between_commas(self, written):
        text = 'size,rooms,price\n"1,5",2,"10,5"\n"2,5",3,"20,25"\n"3,5",3,30\n4,5,"40,5"\n'
        np.testing.assert_array_equal(rows(written(text)), EXPECTED)

    def test_exponents_and_signs(self, written):
        file = written("a;price\n-1,5e3;1\n+,25E-1;2\n0,5;3\n7;4\n")
        np.testing.assert_array_equal(rows(file, task="regression")[:, 0], [-1500, 0.025, 0.5, 7])

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            ("1.234,5 2 3 4", r"'1.234,5', a number with separators in column 'a', line 2"),
            ("1,5 2.5 3 4", r"with a point ('2.5') and with a comma ('1,5')"),
            ("1,234 2,500 980 3", r"'1,234', whose sign may be a decimal sign or separate thousands"),
            ("1.234 2.500 980 3", r"'1.234', whose sign may be"),
            ("1,234,567 2 3 4", "a number with separators"),
            ("1'234 2 3 4", "a number with separators"),
        ],
    )
    def test_separators_of_thousands_are_never_read(self, written, cells, message):
        lines = "".join(f"{cell};{i}\n" for i, cell in enumerate(cells.split()))
        assert message in refusal(written("a;price\n" + lines), task="regression")
        assert message in refusal(written("a;price\n" + lines), task="regression", encode="text", impute="mean")
        swapped = "".join(f"{i};{cell}\n" for i, cell in enumerate(cells.split()))
        assert message.replace("'a'", "'price'") in refusal(written("a;price\n" + swapped), task="regression")

    def test_a_number_proves_the_sign_for_all(self, written):
        file = written("a;price\n1,234;1\n0,5;2\n2,500;3\n3;4\n")
        np.testing.assert_array_equal(rows(file, task="regression")[:, 0], [1.234, 0.5, 2.5, 3])
        file = written("a;price\n1.234;1\n0.5;2\n2.500;3\n3;4\n")
        np.testing.assert_array_equal(rows(file, task="regression")[:, 0], [1.234, 0.5, 2.5, 3])

    def test_points_between_commas_are_decimal(self, written):
        assert rows(written("a,price\n1.234,1\n2.500,2\n3,3\n4,4\n"), task="regression")[0, 0] == 1.234

    def test_targets(self, written):
        text = "a;price\n" + "".join(f"{i};{cell}\n" for i, cell in enumerate(["1.000,5", "2.000,5"] * 4))
        assert "a number with separators" in refusal(written(text))  # not two classes
        text = "a;price\n" + "".join(f"{i};{cell}\n" for i, cell in enumerate(["1,500", "2,500"] * 4))
        assert "thousands" in refusal(written(text))


class TestUnnamed:
    @pytest.mark.parametrize("header", ["", '""', "Unnamed: 0", "Unnamed: 0.1"])
    @pytest.mark.parametrize("cells", ["0 1 2 3", "a b c d"])
    def test_left_out_with_a_warning(self, written, header, cells):
        lines = [header, *cells.split()]
        text = "\n".join(f"{cell},{line}" for cell, line in zip(lines, HOUSES.splitlines(), strict=True))
        name = header.strip('"') or "Unnamed: 0"
        with pytest.warns(UserWarning, match=rf"column '{name}' has no name and is not used") as caught:
            np.testing.assert_array_equal(rows(written(text)), EXPECTED)
        assert caught[0].filename == __file__
        np.testing.assert_array_equal(rows(written(text), drop=name), EXPECTED)
        train, _ = csv(written(text), "price", n_train=3, columns=(name, "size"), encode="text")
        assert train.input_names[0].startswith(name)

    def test_saved_twice(self, written):
        text = ",Unnamed: 0,a,price\n" + "".join(f"{i},{i},{i * i},{i}.5\n" for i in range(6))
        with pytest.warns(UserWarning, match="has no name"):
            assert csv(written(text), "price", n_train=3)[0].input_names == ("a",)

    def test_a_delimiter_at_the_end_of_every_line(self, written):
        with pytest.warns(UserWarning, match="has no name"):
            np.testing.assert_array_equal(rows(written(HOUSES.replace("\n", ",\n"))), EXPECTED)

    def test_nothing_but_row_numbers(self, written):
        assert "no input column with a name" in refusal(written(",price\n0,1.5\n1,2.5\n2,4\n3,5\n"))


class TestColumns:
    def test_in_the_order_given(self, written):
        file = written(HOUSES)
        np.testing.assert_array_equal(rows(file, columns=("rooms", "size"))[:, :2], EXPECTED[:, [1, 0]])
        train, test = csv(file, "price", n_train=3, columns="rooms")
        assert train.input_names == test.input_names == ("rooms",)

    def test_what_is_not_used_is_not_read(self, written):
        file = written(HOUSES.replace("2.5", "big"))
        np.testing.assert_array_equal(rows(file, drop="size"), EXPECTED[:, 1:])
        np.testing.assert_array_equal(rows(file, columns=["rooms"]), EXPECTED[:, 1:])

    def test_several_targets(self, written):
        file = written("a,b,c\n" + "".join(f"{i},{i % 3},{2 * i}\n" for i in range(8)))
        train, test = csv(file, ("c", "b"), n_train=5, standardise="none")
        assert (train.n_outputs, train.classes, train.input_names) == (2, None, ("a",))
        for part in (train, test):
            np.testing.assert_array_equal(part.y, np.column_stack([2 * part.x[:, 0], part.x[:, 0] % 3]))
        assert "one target" in refusal(file, ("c", "b"), task="classification")
        assert "a target of class labels" in refusal(file, ("c", "b"), classes=(0, 1))
        assert "missing" in refusal(written("a,b,c\n1,2,3\n1,,3\n"), ("b", "c"), n_train=1)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"columns": "sise"}, "did you mean 'size'"),
            ({"drop": "sise"}, "did you mean 'size'"),
            ({"encode": "sise"}, "did you mean 'size'"),
            ({"columns": ("size", "price")}, "'price' twice in target, columns and drop"),
            ({"drop": "price"}, "'price' twice in target, columns and drop"),
            ({"columns": ("size", "rooms"), "drop": "size"}, "'size' twice in target, columns and drop"),
            ({"drop": ("size", "rooms")}, "no input"),
            ({"target": ("size", "rooms", "price")}, "no input"),
            ({"columns": "size", "encode": "rooms"}, "encode = 'rooms'"),
            ({"columns": ()}, "at least one value"),
            ({"columns": ("size", "size")}, "every column once"),
            ({"encode": 3}, "encode = 3"),
            ({"columns": 3}, "columns = 3"),
            ({"impute": "men"}, "did you mean 'mean'"),
            ({"delimiter": 3}, "one character"),
        ],
    )
    def test_refused(self, written, options, message):
        assert message in refusal(written(HOUSES), **options)


COLOURS = ["red", "blue", "", "red", "sea green", "blue", "red", "red"]
MIXED = "colour,size,price\n" + "".join(f"{c},{'' if i == 5 else i * i},{i}.5\n" for i, c in enumerate(COLOURS))


class TestEncodeAndImpute:
    def test_by_hand_from_the_training_part(self, written):
        train, test = csv(written(MIXED), "price", n_train=5, seed=3, encode="text", impute="mean", standardise="none")
        order = np.random.default_rng(3).permutation(8)
        sizes = np.array([float(i * i) if i != 5 else np.nan for i in range(8)])
        colours = np.array(COLOURS)
        known = sorted(set(colours[order[:5]]) - {""})
        counts = {name: (colours[order[:5]] == name).sum() for name in known}
        most = max(known, key=lambda name: counts[name])
        filled = np.where(colours == "", most, colours)
        columns = [(filled == name).astype(float) for name in known]
        expected = np.column_stack([*columns, np.where(np.isnan(sizes), np.nanmean(sizes[order[:5]]), sizes)])
        np.testing.assert_array_equal(train.x, expected[order[:5]])
        np.testing.assert_array_equal(test.x, expected[order[5:]])
        assert train.input_names == test.input_names == (*(f"colour={name}" for name in known), "size")

    def test_a_text_of_the_test_part_alone_is_zero(self, written):
        text = "a,b,price\n" + "".join(f"{'new' if i == 7 else 'xy'[i % 2]},{i},{i}.5\n" for i in range(8))
        seed = next(s for s in range(99) if np.random.default_rng(s).permutation(8)[-1] == 7)
        train, test = csv(written(text), "price", n_train=6, seed=seed, encode="text", standardise="none")
        assert train.input_names == ("a=x", "a=y", "b")
        np.testing.assert_array_equal(test.x[-1], [0, 0, 7])

    @pytest.mark.parametrize(("impute", "value"), [("mean", 3), ("median", 2), ("most_frequent", 1)])
    def test_strategies(self, written, impute, value):
        file = written("a,b,price\n" + "".join(f"{a},0,{i}.5\n" for i, a in enumerate(["1", "1", "2", "3", "8", "NA"])))
        seed = next(s for s in range(99) if np.random.default_rng(s).permutation(6)[-1] == 5)
        _, test = csv(file, "price", n_train=5, seed=seed, impute=impute, standardise="none")
        np.testing.assert_array_equal(test.x, [[value, 0]])

    def test_numbers_as_texts_where_they_are_named(self, written):
        file = written(HOUSES)
        train, _ = csv(file, "price", n_train=3, encode="rooms", standardise="none", seed=1)
        assert [name.partition("=")[0] for name in train.input_names] == ["size"] + ["rooms"] * (train.n_inputs - 1)
        assert set(train.x[:, 1:].ravel()) == {0.0, 1.0}

    @pytest.mark.parametrize("missing", ["", "NA", "n/a", "nan", "-nan", "NULL", "?", "<NA>"])
    def test_missing(self, written, missing):
        file = written(HOUSES.replace("2.5", missing))
        assert "--impute" in refusal(file)
        assert np.isfinite(rows(file, impute="mean")).all()

    @pytest.mark.parametrize(
        ("change", "options", "message"),
        [
            (("2.5", "big"), {}, "--encode"),
            (("2.5", "big"), {"encode": "text"}, "'big' in column 'size', line 3, which holds texts and numbers"),
            (("2.5", "inf"), {"impute": "mean"}, "infinite"),
            (("20.25", ""), {"impute": "mean"}, "missing"),
            (("2.5", ""), {"encode": "size"}, "missing"),
        ],
    )
    def test_refused(self, written, change, options, message):
        assert message in refusal(written(HOUSES.replace(*change)), **options)

    def test_texts_mixed_with_numbers_where_they_are_named(self, written):
        assert rows(written(HOUSES.replace("2.5", "big")), encode="size").shape[0] == 4

    def test_a_column_without_any_value(self, written):
        file = written("a,b,price\n" + "".join(f",{i},{i}.5\n" for i in range(8)))
        message = refusal(file, impute="mean")
        assert "a column without any value in the training part: a" in message
        assert "--drop" in message

    def test_names_of_single_rows(self, written):
        file = written("a,b,price\n" + "".join(f"name {i},{i},{i}.5\n" for i in range(60)))
        message = refusal(file, n_train=40, encode="text")
        assert "column 'a' with 40 different texts in 40 training rows" in message
        assert "leave it out with drop='a' (--drop)" in message

    def test_an_encoding_above_the_cap(self, written):
        text = "a,b,price\n" + "".join(f"t{i % 400},{i},{i}.5\n" for i in range(1000))
        with pytest.raises(MemoryCapError, match=r"one-hot encoding of the column 'a' with .* different texts.*--drop"):
            csv(written(text), "price", n_train=900, encode="text", max_bytes=10**6)


class TestPacked:
    @pytest.mark.parametrize("name", ["d.csv.gz", "d.tsv.gz", "D.CSV.GZ"])
    def test_read(self, written, name):
        file = written(HOUSES.replace(",", "\t") if "tsv" in name else HOUSES, "packed.gz")
        file = file.rename(file.with_name(name))
        assert len(load(file, target="price", n_train=3)[0]) == 3

    @pytest.mark.parametrize("cut", [slice(0, 10), slice(0, -9), slice(5, None), slice(0, 0)])
    def test_damaged(self, written, cut):
        file = written(HOUSES, "d.csv.gz")
        file.write_bytes(file.read_bytes()[cut])
        assert any(word in refusal(file) for word in ("gzip", "no header"))

    @pytest.mark.parametrize("line", ["1,2,3\n", "1" * 1000])
    def test_a_bomb_is_not_unpacked(self, written, line):
        file = written("size,rooms,price\n" + line * (10**7 // len(line)), "d.csv.gz")
        assert file.stat().st_size < 10**5
        tracemalloc.start()
        try:
            with pytest.raises(MemoryCapError, match="a part alone"):
                csv(file, "price", max_bytes=10**5)
            assert tracemalloc.get_traced_memory()[1] < 2 * 10**6
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("cell", ["NA", "?", "null", "nan", "inf"])
@pytest.mark.parametrize("task", ["auto", "classification"])
def test_a_missing_target_is_no_class(tmp_path, cell, task):
    file = tmp_path / "some.csv"
    file.write_text(f"a,y\n1,yes\n2,no\n3,{cell}\n4,no\n")
    with pytest.raises(InputError, match=r"missing or infinite value .* column 'y', line 4"):
        csv(file, target="y", n_train=2, task=task)


def test_another_encoding_says_how_to_convert(tmp_path):
    file = tmp_path / "some.csv"
    for content in ("Fläche;y\n1;2,5\n2;3,5\n3;4,5\n".encode("latin-1"), b"a,y\n\xff\xfe\x00,1\n"):
        file.write_bytes(content)
        with pytest.raises(InputError, match="CSV UTF-8"):
            csv(file, target="y", n_train=2)
