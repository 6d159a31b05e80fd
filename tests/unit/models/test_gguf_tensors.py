"""The tensors of a GGUF file, against the gguf package's own reader."""

import struct

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from llm_figures.core.errors import UserError
from llm_figures.models.gguf import count_tensor_types
from llm_figures.models.gguf_tensors import read_gguf_tensors, unpack

KINDS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0"]


def write(path, alignment=None, metadata=()):
    """A file with a matrix [3, 64] of each kind, and a vector."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_array("tokens", ["a", "", "größer"])
    writer.add_array("scores", [0.5, 2.5])
    for add in metadata:
        add(writer)
    weights = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    for name in KINDS:
        kind = GGMLQuantizationType[name]
        writer.add_tensor(name, quantize(weights, kind), raw_dtype=kind)
    writer.add_tensor("vector", weights[0, :5])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("alignment", [None, 8, 256])
def test_tensors_are_those_that_the_package_reads(tmp_path, alignment):
    path = write(tmp_path / "own.gguf", alignment)
    found = read_gguf_tensors(path)
    theirs = gguf.GGUFReader(path).tensors
    assert list(found) == [tensor.name for tensor in theirs] == [*KINDS, "vector"]
    for tensor in theirs:
        own = found[tensor.name]
        assert own.kind == tensor.tensor_type.name
        assert own.shape == tuple(reversed(tensor.shape.tolist()))
        assert (own.start, own.size) == (tensor.data_offset, tensor.n_bytes)
        values = unpack(own.read(), own.kind).reshape(own.shape)
        np.testing.assert_array_equal(values, dequantize(tensor.data, tensor.tensor_type))


def test_a_file_that_ends_within_its_weights_is_damaged(tmp_path):
    path = write(tmp_path / "own.gguf")
    last = read_gguf_tensors(path)["vector"]
    path.write_bytes(path.read_bytes()[: last.start + last.size - 1])
    with pytest.raises(ValueError, match="ends before the data of vector"):
        read_gguf_tensors(path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data.replace(b"Q4_0", b"Q4_1"), "two tensors Q4_1"),
        (lambda data: data.replace(b"scores", b"tokens"), "two keys tokens"),
        (lambda data: data.replace(b"vector", b"vecto\xff"), "codec can't decode"),
        (lambda data: change_type(data, b"vector", 99), "99 is not a valid"),
        (lambda data: change_type(data, b"vector", 2), "vector has rows of 5 weights in blocks"),
        (lambda data: change_array(data, b"scores", 9), "an array of the unknown type 9"),
        (lambda data: change_array(data, b"scores", 77), "an array of the unknown type 77"),
    ],
)  # fmt: skip
def test_a_damaged_header_is_one_clear_line(tmp_path, spoil, said):
    path = write(tmp_path / "own.gguf")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=said) as caught:
        count_tensor_types(path, "model mine")
    assert str(caught.value).startswith("model mine: own.gguf is damaged: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alignment", [0, 3])
def test_an_alignment_that_is_no_power_of_two_is_refused(tmp_path, alignment):
    def add(writer):
        writer.add_uint32("general.alignment", alignment)

    path = write(tmp_path / "own.gguf", metadata=[add])
    with pytest.raises(ValueError, match=f"general.alignment {alignment} in its header"):
        read_gguf_tensors(path)


def change_type(data, name, kind):
    """The file with another type of a vector: its name, number of dimensions, size, type."""
    at = data.index(name) + len(name) + 4 + 8
    return data[:at] + struct.pack("<I", kind) + data[at + 4 :]


def change_array(data, key, element):
    """The file with another type of an array's elements: its key, the type of arrays, theirs."""
    at = data.index(key) + len(key) + 4
    return data[:at] + struct.pack("<I", element) + data[at + 4 :]
