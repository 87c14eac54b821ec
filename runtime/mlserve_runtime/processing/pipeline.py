"""One object per model that knows the way from a request's values to predictions.

Checks run per request, before it is queued, so that a bad one is answered at once and never shares a batch;
`preprocess` and `postprocess` run once per batch in the executor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlserve_core.processing import Encode
from mlserve_runtime.processing.errors import InputError, PipelineError
from mlserve_runtime.processing.images import ImageDecoder, decode_base64
from mlserve_runtime.processing.predictions import Outcome, postprocess
from mlserve_runtime.processing.steps import compile_steps
from mlserve_runtime.processing.tensors import DTYPES, Array, Tensors, as_text, check_shape, check_values, to_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlserve_core.model_spec import ModelSpec, TensorSpec


WAYS: Final = ("features", "inputs", "image", "entity")
"""The properties a row can be given by, each alone. Features of an entity are looked up before they come here."""


def check_alone(document: dict[str, Any], ways: Sequence[str] = WAYS) -> None:
    """Raises InputError where several of these properties are given: any choice among them would be a guess."""
    given = [way for way in ways if way in document] if len(document) > 1 else []
    if len(given) > 1:
        raise InputError(f"the object has {_listed(given)}, which say the same thing twice; send one of them")


def build_pipeline(spec: ModelSpec) -> Pipeline:
    """The pipeline of a model. Raises PipelineError where the declared steps cannot work on the declared tensors."""
    return Pipeline(spec)


class Pipeline:
    """Pre- and postprocessing of one model. Immutable after construction, so safe to share between threads."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.feature_names = spec.feature_names
        self._by_name = {tensor.name: tensor for tensor in spec.inputs}
        self._single = spec.inputs[0] if len(spec.inputs) == 1 else None
        self._steps = compile_steps(spec.preprocessing, default=spec.inputs[0].name)
        self._decoder = ImageDecoder(spec.image, spec.input(spec.image.input)) if spec.image else None
        self._columns = {name: (tensor, i) for tensor in spec.inputs for i, name in enumerate(tensor.feature_names)}
        self._rehearse()

    @property
    def accepts_images(self) -> bool:
        """Whether `from_image` works."""
        return self._decoder is not None

    # --- one request -> raw tensors ------------------------------------------------------------------------------

    def from_json(self, payload: Any) -> Tensors:
        """Raw tensors of one row, of the simple API's request body.

        Args:
            payload: `{"features": [...]}` (values in order, nested or flat), `{"features": {"name": value}}`,
                `{"image": "<base64 or data URL>"}`, or `{"inputs": {"tensor": [...]}}` for several tensors.

        Raises:
            InputError: With the name of what does not fit and what was expected.
        """
        if not isinstance(payload, dict):
            raise InputError(f"expected an object with {self._accepted()}")
        check_alone(payload)
        if "features" in payload:
            return self.from_features(payload["features"])
        if "image" in payload:
            if not isinstance(payload["image"], str):
                raise InputError("image must be a string: base64 of the file, or a data URL")
            return self.from_image(decode_base64(payload["image"]))
        if "inputs" in payload:
            if not isinstance(payload["inputs"], dict):
                raise InputError('inputs must be an object like {"tensor": [values of one row]}')
            return self.check({name: self._row(name, value) for name, value in payload["inputs"].items()})
        raise InputError(f"expected an object with {self._accepted()}")

    def from_json_batch(self, payloads: Sequence[Any]) -> Tensors:
        """Raw tensors of many rows; plain rows are converted in one go. InputError carries the row at fault."""
        if not payloads:
            raise InputError("the batch is empty; send at least one row")
        single = self._single
        if single is not None and all(isinstance(p, dict) and _only_features(p) for p in payloads):
            try:
                return self.check(
                    {single.name: self._shaped(to_array([p["features"] for p in payloads], single), single)}
                )
            except InputError:
                pass  # The row-wise way below finds out which row it was.
        rows = []
        for index, payload in enumerate(payloads):
            try:
                rows.append(self.from_json(payload))
            except InputError as error:
                raise InputError(str(error).removeprefix("row 0: "), row=index) from error
        return self.join(rows)

    def from_features(self, features: Any) -> Tensors:
        """Raw tensors of one row given as values in order or as an object of feature names."""
        if isinstance(features, dict):
            return self._from_named(features)
        if not isinstance(features, list):
            raise InputError("features must be a list of values or an object of names and values")
        if self._single is not None:
            return self.check({self._single.name: self._row(self._single.name, features)})
        names = self.feature_names
        if len(features) != len(names):
            raise InputError(f"expected {len(names)} features ({_listed(names)}), got {len(features)}")
        return self._from_named(dict(zip(names, features, strict=True)))

    def from_image(self, data: bytes) -> Tensors:
        """Raw tensors of one uploaded picture."""
        if self._decoder is None:
            raise InputError(f"this model takes no images; send {self._accepted()}")
        return self.check({self._decoder.input: self._decoder(data)})

    def check(self, tensors: Tensors) -> Tensors:
        """Compare raw tensors with the signature: names, datatypes, shapes, equal rows, missing values.

        Returns:
            The same tensors in the order of the signature.

        Raises:
            InputError: Naming the tensor and what was expected.
        """
        if tensors.keys() != self._by_name.keys():
            raise InputError(
                f"expected the inputs {_listed(tuple(self._by_name))}, got {_listed(tuple(tensors)) or 'none'}"
            )
        rows = -1
        for name, spec in self._by_name.items():
            array = tensors[name]
            if array.dtype != DTYPES[spec.datatype]:
                raise InputError(f"tensor {name!r} has datatype {array.dtype}, expected {spec.datatype}")
            check_shape(array, spec)
            if rows not in {-1, len(array)}:
                raise InputError(f"tensor {name!r} has {len(array)} rows, the others {rows}")
            rows = len(array)
            check_values(array, spec)
            if spec.datatype == "BYTES":
                tensors = {**tensors, name: as_text(array, spec)}
        if rows == 0:
            raise InputError("the batch is empty; send at least one row")
        return {name: tensors[name] for name in self._by_name}

    @staticmethod
    def join(rows: Sequence[Tensors]) -> Tensors:
        """Several requests' tensors as one batch. Raises InputError where sizes that vary differ."""
        if len(rows) == 1:
            return rows[0]
        try:
            return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        except ValueError as error:
            raise InputError("rows of one batch must have the same shape") from error

    # --- one batch -----------------------------------------------------------------------------------------------

    def preprocess(self, raw: Tensors) -> Tensors:
        """Model inputs, in order, of a batch of raw tensors; `raw` itself is left as it is.

        Raises:
            InputError: A value no step can encode (an unknown category); carries the row.
        """
        tensors = raw
        for step in self._steps:
            tensors = step(tensors)
        return tensors

    def postprocess(self, outputs: Tensors) -> Outcome:
        """Signature outputs and predictions of a batch of model outputs."""
        return postprocess(self.spec, outputs)

    def columns(self, raw: Tensors) -> dict[str, Array]:
        """Every feature by name as a column of raw values [n]; views, nothing is copied."""
        flat = {name: array.reshape(len(array), -1) for name, array in raw.items()}
        return {name: flat[tensor.name][:, index] for name, (tensor, index) in self._columns.items()}

    def sample_rows(self, count: int) -> Tensors:
        """Made-up rows that fit the signature: zeros, known categories, 1 for sizes that vary."""
        encoders = [step for step in self.spec.preprocessing if isinstance(step, Encode)]
        known = {step.input or self.spec.inputs[0].name: step.categories[0] for step in encoders}
        raw: Tensors = {}
        for tensor in self.spec.inputs:
            dtype = DTYPES[tensor.datatype]
            value: Any = known.get(tensor.name, "" if tensor.datatype == "BYTES" else 0)
            shape = (count, *(1 if size == -1 else size for size in tensor.row_shape))
            raw[tensor.name] = np.full(shape, value if tensor.datatype == "BYTES" else dtype.type(value), dtype=dtype)
        return raw

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _row(self, name: str, value: Any) -> Array:
        tensor = self._by_name.get(name)
        if tensor is None:
            raise InputError(f"there is no input {name!r}; the model has {_listed(tuple(self._by_name))}")
        return self._shaped(to_array(value, tensor)[np.newaxis], tensor)

    @staticmethod
    def _shaped(array: Array, tensor: TensorSpec) -> Array:
        """Flat values of a row are brought into its shape: 64 numbers are an 8 x 8 picture."""
        size = tensor.row_size
        rows = len(array)
        if size is None or array.shape[1:] == tensor.row_shape or array.size != rows * size or array.ndim > 2:
            return array
        return array.reshape(rows, *tensor.row_shape)

    def _from_named(self, features: dict[str, Any]) -> Tensors:
        unknown = [name for name in features if name not in self._columns]
        if unknown:
            raise InputError(f"unknown feature {_listed(unknown)}; the model has {_listed(self.feature_names)}")
        tensors: Tensors = {}
        for tensor in self.spec.inputs:
            absent = [name for name in tensor.feature_names if name not in features]
            if absent and tensor.missing == "reject":
                raise InputError(f"missing feature {_listed(absent)}")
            values = [features.get(name) for name in tensor.feature_names]
            array = to_array(values, tensor)
            if array.ndim != 1:
                raise InputError(f"every feature of {tensor.name!r} must be a single value, not a list")
            tensors[tensor.name] = array.reshape(1, *tensor.row_shape)
        return self.check(tensors)

    def _accepted(self) -> str:
        ways = ['"features"', '"inputs"'] + (['"image"'] if self._decoder else [])
        return " or ".join(ways)

    def _rehearse(self) -> None:
        """Run the steps on two made-up rows, so that a step that cannot work fails at load and not at a request."""
        if any(tensor.row_size is None for tensor in self.spec.inputs):
            return
        try:
            self.preprocess(self.sample_rows(2))
        except (InputError, ValueError, TypeError, KeyError) as error:
            steps = ", ".join(step.op for step in self.spec.preprocessing)
            raise PipelineError(f"preprocessing ({steps}) does not fit the inputs: {error}") from error


def _only_features(payload: dict[str, Any]) -> bool:
    return type(payload.get("features")) is list and (len(payload) == 1 or payload.keys().isdisjoint(WAYS[1:]))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
