"""Text, JSON and YAML: strictly read, and every fault one line with the file's name."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from fullscale.documents import MOST_VALUES, read_json, read_model, read_text, read_yaml
from fullscale.errors import DataError

BOMB = "\n".join(["a0: &a0 [x, x, x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12))])


class Case(BaseModel):
    name: str
    size: int


def refusal(read: object, path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)  # type: ignore[operator]
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    assert len(said) < 400
    return said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON (Expecting value"),
        (b'{"a": 1', "is not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice in one object"),
        (b"[NaN]", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e999]", "the number 1e999 is too large"),
        (b"[1" + b"0" * 30 + b"]", "is too large"),
        (b"1" * 10_000, "is not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'"\\ud800"', "is not JSON"),
        ('{"a": 1}'.encode("utf-16"), "is not text in UTF-8"),
        (b'{"caf\xe9": 1}', "is not text in UTF-8 (byte 5"),
    ],
)
def test_what_is_not_strict_json_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    assert says in refusal(read_json, tmp_path / "a.json", content)


def test_json_with_a_byte_order_mark_and_equal_keys_in_different_objects_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": {"b": 1}, "c": {"b": -9223372036854775807}, "d": 1.5}')
    assert read_json(tmp_path / "a.json") == {"a": {"b": 1}, "c": {"b": -(2**63) + 1}, "d": 1.5}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: [1", "is not YAML"),
        (b"a: 1\nb: 2\na: 3", "the key 'a' stands twice"),
        (b"{a: {b: 1, b: 2}}", "the key 'b' stands twice"),
        (b"? [a]\n: b", "is not YAML"),
        (b"a: !!python/object:os.system x", "is not YAML"),
        (b"a: 2024-13-45", "is not YAML"),
        (b"&a [*a]", "its aliases stand for too many values, or for themselves"),
        (BOMB.encode(), "its aliases stand for too many values"),
        (b"[" * 20_000, "nested too deep"),
        (b"a: b\x00", "is not YAML"),
        (b"a: !!set [x]", "is not YAML"),
        (b"a: !!timestamp x", "is not YAML"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    assert says in refusal(read_yaml, tmp_path / "a.yaml", content)


def test_merged_keys_of_yaml_may_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: &x {b: 1, c: 2}\ny: {<<: *x, b: 3}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"x": {"b": 1, "c": 2}, "y": {"b": 3, "c": 2}}
    (tmp_path / "a.yaml").write_text("")
    assert read_yaml(tmp_path / "a.yaml") is None


def test_a_large_plain_yaml_is_no_bomb(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("\n".join(f"- {k}" for k in range(2000)))
    assert len(read_yaml(tmp_path / "a.yaml")) == 2000 < MOST_VALUES


def test_the_first_wrong_value_is_named(tmp_path: Path) -> None:
    said = refusal(lambda path: read_model(path, Case), tmp_path / "a.json", b'{"name": "x", "size": "large"}')
    assert "size: " in said
    assert "it holds 'large'" in said


def test_a_missing_file_and_a_folder_are_said_with_what_they_were_to_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^cannot read the plan .*no\.json: No such file or directory$"):
        read_text(tmp_path / "no.json", "the plan")
    with pytest.raises(DataError, match=r"^cannot read .*: Is a directory$"):
        read_json(tmp_path)
