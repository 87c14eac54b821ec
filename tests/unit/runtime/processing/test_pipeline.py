"""Requests to raw tensors, raw tensors to model inputs, model outputs to predictions."""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mlserve_core.artifact import parse_model_spec
from mlserve_runtime.processing import InputError, Pipeline, PipelineError, build_pipeline, warm_up_rows

SCORES = [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}]
ROW = [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "features": ["a", "b", "c"]}]
PICTURE = [{"name": "image", "datatype": "UINT8", "shape": [-1, 4, 4]}]
TABLE = [
    {"name": "age", "datatype": "FP32", "shape": [-1], "missing": "allow"},
    {"name": "city", "datatype": "BYTES", "shape": [-1]},
]


def pipeline(inputs: list[dict[str, Any]] = ROW, **more: Any) -> Pipeline:
    document = {"name": "m", "format": "onnx", "weights": "m.onnx", "inputs": inputs, "outputs": SCORES} | more
    return build_pipeline(parse_model_spec(yaml.safe_dump(document)))


class TestJson:
    @pytest.mark.parametrize(
        "features",
        [
            pytest.param([1, 2, 3], id="list"),
            pytest.param([1.0, 2.0, 3.0], id="floats"),
            pytest.param({"c": 3, "a": 1, "b": 2}, id="names in any order"),
        ],
    )
    def test_a_row(self, features: Any) -> None:
        raw = pipeline().from_json({"features": features})
        assert raw["x"].dtype == np.float32
        assert raw["x"].tolist() == [[1.0, 2.0, 3.0]]

    @pytest.mark.parametrize(
        ("payload", "message"),
        [
            pytest.param([1, 2, 3], "expected an object", id="bare list"),
            pytest.param({}, '"features" or "inputs"', id="empty"),
            pytest.param({"features": [1, 2]}, r"shape \[1, 2\], expected \[-1, 3\]", id="too few"),
            pytest.param({"features": [1, 2, 3, 4]}, "expected", id="too many"),
            pytest.param({"features": ["1", "2", "3"]}, "without quotes", id="text"),
            pytest.param({"features": [1, "2", 3]}, "without quotes", id="some text"),
            pytest.param({"features": [1, None, 3]}, "feature 'b' is missing", id="null"),
            pytest.param({"features": [1, {}, 3]}, "got an object", id="object"),
            pytest.param({"features": [1, [2], 3]}, "different lengths", id="ragged"),
            pytest.param({"features": [1, 1e300, 3]}, "feature 'b' is infinite", id="too large for FP32"),
            pytest.param({"features": [1, 10**400, 3]}, "too large", id="huge integer"),
            pytest.param({"features": "abc"}, "list of values", id="string"),
            pytest.param({"features": {"a": 1, "b": 2}}, "missing feature 'c'", id="name missing"),
            pytest.param({"features": {"a": 1, "b": 2, "c": 3, "d": 4}}, "unknown feature 'd'", id="name unknown"),
            pytest.param({"features": {"a": [1], "b": [2], "c": [3]}}, "single value", id="lists by name"),
            pytest.param({"inputs": {"y": [1, 2, 3]}}, "no input 'y'", id="unknown tensor"),
            pytest.param({"inputs": [1]}, "must be an object", id="inputs as list"),
            pytest.param({"image": "aGk="}, "takes no images", id="image"),
            pytest.param({"image": 3}, "must be a string", id="image as number"),
            pytest.param({"features": [1, 2, 3], "inputs": {"x": [1, 2, 3]}}, "'features', 'inputs'", id="two ways"),
            pytest.param({"features": [1, 2, 3], "entity": "u1"}, "'features', 'entity'", id="a row and its entity"),
        ],
    )
    def test_a_mistake_is_named(self, payload: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            pipeline().from_json(payload)

    @pytest.mark.parametrize("before", [[], [1]], ids=["alone", "after a number"])
    def test_deep_nesting_is_refused_and_not_recursed_into(self, before: list[Any]) -> None:
        value: Any = 1
        for _ in range(10_000):
            value = [value]
        with pytest.raises(InputError, match=r"nested deeper|different lengths"):
            pipeline().from_json({"features": [*before, value]})

    @pytest.mark.parametrize(
        ("datatype", "value", "message"),
        [
            ("UINT8", 256, "outside 0..255"),
            ("UINT8", -1, "outside 0..255"),
            ("INT64", 1.5, "fraction"),
            ("INT64", True, "true or false"),
            ("INT64", None, "null"),
            ("BOOL", 1, "true or false"),
            ("BYTES", 1, "got a number"),
        ],
    )
    def test_nothing_is_converted_silently(self, datatype: str, value: Any, message: str) -> None:
        inputs = [{"name": "x", "datatype": datatype, "shape": [-1, 2]}]
        with pytest.raises(InputError, match=message):
            pipeline(inputs).from_json({"features": [value, value]})

    @pytest.mark.parametrize(
        ("datatype", "values"),
        [
            ("UINT64", [2**64 - 1, 1]),
            ("UINT64", [2**63 + 1, 1]),
            ("UINT64", [2**63 + 1, 2.0]),
            ("INT64", [2**53 + 1, 1.0]),
            ("INT64", [-(2**63), 1.0]),
        ],
    )
    def test_large_integers_arrive_whole_whatever_stands_beside_them(self, datatype: str, values: list[Any]) -> None:
        """NumPy makes floats of such lists, which end in another integer than was sent."""
        inputs = [{"name": "x", "datatype": datatype, "shape": [-1, 2]}]
        assert pipeline(inputs).from_json({"features": values})["x"].tolist() == [values]

    @pytest.mark.parametrize(
        ("datatype", "values", "message"),
        [
            ("UINT64", [2**63 + 1, -1], "outside 0.."),
            ("UINT64", [2.0**64, 1], "outside 0.."),
            ("INT64", [2**63, 1], "outside -9"),
            ("INT64", [2**53 + 1, 0.5], "fraction"),
            ("INT64", [1e300, 1], "outside -9"),
        ],
    )
    def test_large_numbers_that_do_not_fit_are_refused(self, datatype: str, values: list[Any], message: str) -> None:
        inputs = [{"name": "x", "datatype": datatype, "shape": [-1, 2]}]
        with pytest.raises(InputError, match=message):
            pipeline(inputs).from_json({"features": values})

    def test_a_flat_list_fills_the_shape(self) -> None:
        raw = pipeline(PICTURE).from_json({"features": list(range(16))})
        assert raw["image"].shape == (1, 4, 4)
        assert raw["image"][0, 1, 0] == 4

    def test_several_tensors(self) -> None:
        model = pipeline(TABLE)
        by_name = model.from_json({"features": {"city": "Rome", "age": 30}})
        by_order = model.from_json({"features": [30, "Rome"]})
        by_tensor = model.from_json({"inputs": {"age": 30, "city": "Rome"}})
        for raw in (by_name, by_order, by_tensor):
            assert raw["age"].tolist() == [30.0]
            assert raw["city"].tolist() == ["Rome"]

    def test_an_allowed_missing_value_becomes_nan(self) -> None:
        for features in ({"city": "Rome"}, {"city": "Rome", "age": None}):
            assert np.isnan(pipeline(TABLE).from_json({"features": features})["age"]).all()


class TestBatch:
    def test_rows_are_stacked(self) -> None:
        raw = pipeline().from_json_batch([{"features": [1, 2, 3]}, {"features": {"a": 4, "b": 5, "c": 6}}])
        assert raw["x"].tolist() == [[1, 2, 3], [4, 5, 6]]

    @pytest.mark.parametrize("bad", [[1, 2], [1, "x", 3], [1, None, 3]], ids=["short", "text", "null"])
    def test_the_row_at_fault_is_named(self, bad: list[Any]) -> None:
        good = {"features": [1, 2, 3]}
        with pytest.raises(InputError, match=r"^row 2: ") as caught:
            pipeline().from_json_batch([good, good, {"features": bad}, good])
        assert caught.value.row == 2

    def test_a_row_given_twice_is_named_and_what_is_none_of_the_ways_does_not_matter(self) -> None:
        noted = {"features": [1, 2, 3], "note": "from the night shift"}
        assert pipeline().from_json_batch([noted, noted])["x"].tolist() == [[1.0, 2.0, 3.0]] * 2
        with pytest.raises(InputError, match="row 1: the object has 'features', 'inputs'"):
            pipeline().from_json_batch([noted, {**noted, "inputs": {"x": [1, 2, 3]}}])

    def test_an_empty_batch_is_refused(self) -> None:
        with pytest.raises(InputError, match="empty"):
            pipeline().from_json_batch([])


class TestCheck:
    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            pytest.param({}, "expected the inputs 'x'", id="none"),
            pytest.param({"y": np.zeros((1, 3), np.float32)}, "got 'y'", id="name"),
            pytest.param({"x": np.zeros((1, 3))}, "datatype float64, expected FP32", id="datatype"),
            pytest.param({"x": np.zeros((1, 4), np.float32)}, r"shape \[1, 4\], expected \[-1, 3\]", id="shape"),
            pytest.param({"x": np.zeros((), np.float32)}, "shape", id="scalar"),
            pytest.param({"x": np.zeros((0, 3), np.float32)}, "empty", id="no rows"),
            pytest.param({"x": np.full((2, 3), np.nan, np.float32)}, "row 0: feature 'a' is missing", id="nan"),
            pytest.param({"x": np.full((2, 3), np.inf, np.float32)}, "infinite", id="infinite"),
        ],
    )
    def test_a_mistake_is_named(self, tensors: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            pipeline().check(tensors)

    def test_rows_must_agree(self) -> None:
        with pytest.raises(InputError, match="2 rows, the others 1"):
            pipeline(TABLE).check({"age": np.zeros(1, np.float32), "city": np.array(["a", "b"], dtype=object)})


class TestSteps:
    def test_scale_and_normalize_are_one_step_and_agree_with_two(self) -> None:
        steps = [
            {"op": "scale", "factor": 0.5, "offset": 1},
            {"op": "normalize", "mean": [1, 2, 3], "std": [2, 4, 8]},
        ]
        model = pipeline(preprocessing=steps)
        assert len(model._steps) == 1
        raw = model.from_json({"features": [10, 20, 30]})
        expected = (np.array([10, 20, 30]) * 0.5 + 1 - [1, 2, 3]) / [2, 4, 8]
        np.testing.assert_allclose(model.preprocess(raw)["x"][0], expected, rtol=1e-6)

    def test_raw_values_are_left_alone(self) -> None:
        model = pipeline(preprocessing=[{"op": "scale", "factor": 2}, {"op": "clip", "max": 3}])
        raw = model.from_json({"features": [1, 2, 3]})
        assert model.preprocess(raw)["x"].tolist() == [[2, 3, 3]]
        assert raw["x"].tolist() == [[1, 2, 3]]

    def test_a_picture_to_channels_first(self) -> None:
        inputs = [{"name": "image", "datatype": "UINT8", "shape": [-1, 2, 2, 3]}]
        steps = [
            {"op": "scale", "factor": 1 / 255},
            {"op": "normalize", "mean": [0.0, 0.5, 1.0], "std": [1.0, 1.0, 1.0]},
            {"op": "transpose", "axes": [0, 3, 1, 2]},
        ]
        model = pipeline(inputs, preprocessing=steps)
        out = model.preprocess({"image": np.full((1, 2, 2, 3), 255, np.uint8)})["image"]
        assert out.shape == (1, 3, 2, 2)
        assert out.dtype == np.float32
        assert out.flags.c_contiguous
        np.testing.assert_allclose(out[0, :, 0, 0], [1.0, 0.5, 0.0], atol=1e-6)

    def test_a_table_with_categories_becomes_one_tensor(self) -> None:
        steps = [
            {"op": "impute", "input": "age", "values": [40]},
            {"op": "normalize", "input": "age", "mean": [40], "std": [10]},
            {"op": "encode", "input": "city", "categories": ["Bonn", "Rome"], "unknown": "ignore"},
            {"op": "concatenate", "inputs": ["age", "city"], "output": "row"},
        ]
        model = pipeline(TABLE, preprocessing=steps)
        raw = model.from_json_batch(
            [{"features": [50, "Rome"]}, {"features": [None, "Bonn"]}, {"features": [30, "Oslo"]}]
        )
        prepared = model.preprocess(raw)
        assert list(prepared) == ["row"]
        assert prepared["row"].dtype == np.float32
        assert prepared["row"].tolist() == [[1, 0, 1], [0, 1, 0], [-1, 0, 0]]

    def test_an_unknown_category_is_the_clients_fault(self) -> None:
        steps = [{"op": "encode", "input": "city", "categories": ["Bonn"]}]
        model = pipeline(TABLE, preprocessing=steps)
        raw = model.from_json_batch([{"features": [1, "Bonn"]}, {"features": [1, "Oslo"]}])
        with pytest.raises(InputError, match="'Oslo' is none of Bonn") as caught:
            model.preprocess(raw)
        assert caught.value.row == 1

    def test_ordinal_codes_and_bytes(self) -> None:
        steps = [{"op": "encode", "input": "city", "categories": ["a", "b"], "encoding": "ordinal"}]
        model = pipeline(TABLE, preprocessing=steps)
        raw = model.check({"age": np.zeros(2, np.float32), "city": np.array([b"b", "a"], dtype=object)})
        assert raw["city"].tolist() == ["b", "a"], "telemetry counts the same category whatever the protocol"
        assert model.preprocess(raw)["city"].tolist() == [1.0, 0.0]

    @pytest.mark.parametrize(
        ("datatype", "values"), [("INT64", [3, 5]), ("FP32", [3.0, 5.0]), ("BYTES", ["3", "5"])], ids=str
    )
    def test_numbers_are_categories_too(self, datatype: str, values: list[Any]) -> None:
        inputs = [{"name": "zone", "datatype": datatype, "shape": [-1]}]
        model = pipeline(inputs, preprocessing=[{"op": "encode", "categories": ["5", "3"]}])
        raw = model.from_json_batch([{"inputs": {"zone": value}} for value in values])
        assert model.preprocess(raw)["zone"].tolist() == [[0, 1], [1, 0]]

    def test_bytes_that_are_no_text_are_the_clients_fault(self) -> None:
        with pytest.raises(InputError, match="'city' expects text in UTF-8"):
            pipeline(TABLE).check({"age": np.zeros(1, np.float32), "city": np.array([b"\xff"], dtype=object)})

    @pytest.mark.parametrize(
        "steps",
        [
            pytest.param([{"op": "normalize", "mean": [1, 2], "std": [1, 2]}], id="two means for three columns"),
            pytest.param([{"op": "reshape", "shape": [-1, 2, 2]}], id="reshape of three to four"),
            pytest.param([{"op": "transpose", "axes": [0, 2, 1]}], id="axes that are not there"),
            pytest.param([{"op": "impute", "values": [1, 2]}], id="two values for three columns"),
            pytest.param([{"op": "encode", "categories": ["a"]}], id="names as categories of numbers"),
        ],
    )
    def test_steps_that_cannot_work_fail_at_load(self, steps: list[dict[str, Any]]) -> None:
        with pytest.raises(PipelineError, match="does not fit the inputs"):
            pipeline(preprocessing=steps)

    @given(
        hnp.arrays(np.float32, (4, 3), elements=st.floats(-1e6, 1e6, width=32)),
        st.integers(1, 3),
    )
    def test_a_row_is_treated_alike_alone_and_in_company(self, rows: np.ndarray, split: int) -> None:
        steps = [{"op": "normalize", "mean": [1, 2, 3], "std": [2, 4, 8]}, {"op": "clip", "min": -5, "max": 5}]
        model = pipeline(preprocessing=steps)
        whole = model.preprocess({"x": rows})["x"]
        parts = [model.preprocess({"x": part})["x"] for part in (rows[:split], rows[split:])]
        np.testing.assert_array_equal(whole, np.concatenate(parts))


def png(color: Any, size: tuple[int, int] = (4, 4), mode: str = "L", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, kind)
    return buffer.getvalue()


class TestImages:
    def model(self, **decoding: Any) -> Pipeline:
        return pipeline(PICTURE, image={"mode": "L", "width": 4, "height": 4} | decoding)

    def test_bytes_base64_and_data_url_agree(self) -> None:
        data = png(200)
        text = base64.b64encode(data).decode()
        model = self.model()
        raws = [
            model.from_image(data),
            model.from_json({"image": text}),
            model.from_json({"image": f"data:image/png;base64,{text}"}),
        ]
        for raw in raws:
            assert raw["image"].dtype == np.uint8
            assert (raw["image"] == 200).all()

    @pytest.mark.parametrize("size", [(4, 4), (40, 40), (17, 90), (1, 1)], ids=str)
    @pytest.mark.parametrize("fit", ["stretch", "cover", "contain"])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK"])
    def test_any_picture_becomes_the_declared_shape(self, size: tuple[int, int], fit: str, mode: str) -> None:
        data = png(0, size, mode, "JPEG" if mode == "CMYK" else "PNG")
        assert self.model(fit=fit).from_image(data)["image"].shape == (1, 4, 4)

    def test_sixteen_bits_are_scaled_and_not_clipped(self) -> None:
        buffer = io.BytesIO()
        Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(buffer, "PNG")
        assert self.model().from_image(buffer.getvalue())["image"].tolist() == [[[128] * 4] * 4]

    def test_transparency_takes_the_background(self) -> None:
        assert (self.model(background=255).from_image(png((0, 0, 0, 0), mode="RGBA"))["image"] == 255).all()

    def test_a_drawing_on_white_is_inverted_and_one_on_black_is_not(self) -> None:
        picture = Image.new("L", (4, 4), 255)
        picture.putpixel((1, 1), 0)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        model = self.model(invert="auto")
        assert model.from_image(buffer.getvalue())["image"][0, 1, 1] == 255
        assert model.from_image(buffer.getvalue())["image"][0, 0, 0] == 0
        assert (model.from_image(png(0))["image"] == 0).all()

    def test_orientation_of_a_photograph_is_respected(self) -> None:
        picture = Image.new("L", (4, 4), 0)
        picture.paste(255, (0, 0, 4, 1))  # a bright top row, stored for a rotation by 180 degrees
        exif = Image.Exif()
        exif[0x0112] = 3
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", exif=exif)
        assert self.model().from_image(buffer.getvalue())["image"][0, 3].tolist() == [255] * 4

    def test_shorter_side_then_centre(self) -> None:
        model = pipeline(
            [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 4, 4]}],
            image={"width": 4, "height": 4, "resizeShorterSide": 6},
        )
        assert model.from_image(png((255, 0, 0), (60, 12), "RGB"))["image"].shape == (1, 3, 4, 4)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            pytest.param(b"", "none of PNG", id="empty"),
            pytest.param(b"GIF89a" + b"\0" * 50, "none of PNG", id="format not allowed"),
            pytest.param(png(0)[:40], "damaged|none of", id="truncated"),
            pytest.param(png(0)[:-20] + b"\0" * 20, "damaged", id="overwritten end"),
            pytest.param(b"<svg/>", "none of PNG", id="svg"),
            pytest.param(png(0, (100, 100)), "at most 1000", id="too many pixels"),
        ],
    )
    def test_what_is_no_picture_is_the_clients_fault(self, data: bytes, message: str) -> None:
        with pytest.raises(InputError, match=message):
            self.model(maxPixels=1000).from_image(data)

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        header = bytearray(png(0, (10, 10)))
        header[16:24] = (60_000).to_bytes(4) * 2
        header[29:33] = zlib.crc32(header[12:29]).to_bytes(4)
        with pytest.raises(InputError, match="60000 x 60000 pixels; at most"):
            self.model().from_image(bytes(header))

    @given(st.binary(max_size=200), st.integers(0, 60))
    def test_damaged_files_never_raise_anything_else(self, noise: bytes, start: int) -> None:
        data = bytearray(png(7))
        data[start : start + len(noise)] = noise
        try:
            raw = self.model().from_image(bytes(data))
        except InputError:
            return
        assert raw["image"].shape == (1, 4, 4)

    @pytest.mark.parametrize("text", ["%%%", "data:image/png,abc", "data:nonsense"], ids=str)
    def test_bad_base64(self, text: str) -> None:
        with pytest.raises(InputError, match="base64"):
            self.model().from_json({"image": text})

    def test_a_shape_no_picture_fits_fails_at_load(self) -> None:
        with pytest.raises(PipelineError, match="a picture fits"):
            pipeline(ROW, image={"width": 4, "height": 4})


def test_columns_are_named_views_of_raw_values() -> None:
    model = pipeline(TABLE)
    raw = model.from_json_batch([{"features": [1, "a"]}, {"features": [2, "b"]}])
    columns = model.columns(raw)
    assert list(columns) == ["age", "city"]
    assert columns["age"].tolist() == [1, 2]
    assert np.shares_memory(columns["age"], raw["age"])


class TestWarmUpRows:
    def test_of_the_artifact(self, tmp_path: Path) -> None:
        (tmp_path / "warmup.json").write_text('{"instances": [{"features": [1, 2, 3]}]}')
        assert warm_up_rows(tmp_path / "warmup.json", pipeline())["x"].tolist() == [[1, 2, 3]]

    @pytest.mark.parametrize(
        "text", ["{", "{}", "3", "[]", '{"instances": 3}', '{"instances": [{"features": [1]}]}', "[" * 100_000]
    )
    def test_a_file_that_cannot_be_used(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "warmup.json").write_text(text)
        with pytest.raises(PipelineError, match="package the artifact again"):
            warm_up_rows(tmp_path / "warmup.json", pipeline())

    def test_made_up_rows_hold_known_categories(self) -> None:
        steps = [{"op": "encode", "input": "city", "categories": ["Bonn", "Rome"]}]
        model = pipeline(TABLE, preprocessing=steps)
        assert warm_up_rows(None, model)["city"].tolist() == ["Bonn", "Bonn"]
