"""Derivations as Nix writes them, and what its dry run tells."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.runtimes.base import BuildFailed, Fetch
from hive_core.runtimes.nixos.build import derivations
from hive_core.runtimes.nixos.build.derivations import (
    Plan,
    fetch_of,
    parse_derivation,
    parse_plan,
    read_derivation,
)
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

STORE = Path("/nix/store")
HASH = "0jw0f4bvmmsa1nwi0wbz05iv1gbhqxa1"
PATH = f"/nix/store/{HASH}-x.drv"
OUT = f"/nix/store/{HASH}-x"
DIGEST = hashlib.sha256(b"x").hexdigest()
SRI = "sha256-" + base64.b64encode(hashlib.sha256(b"x").digest()).decode()


def aterm(outputs: str, environment: str = "") -> bytes:
    inputs = f'("/nix/store/{HASH}-a.drv",["out","dev"]),("/nix/store/{HASH}-b.drv",["out"])'
    text = f'Derive([{outputs}],[{inputs}],["/nix/store/{HASH}-s"],"x86_64-linux","/bin/sh",["-e"],[{environment}])'
    return text.encode()


def test_a_derivation_is_read() -> None:
    """Outputs, the derivations that are needed and the builder are those of the file."""
    content = aterm(f'("out","{OUT}","","")', '("url","http://a")')
    found = parse_derivation(PATH, content)
    assert found.outputs["out"].path == OUT
    assert found.inputs == [f"/nix/store/{HASH}-a.drv", f"/nix/store/{HASH}-b.drv"]
    assert (found.program, found.environment, found.size) == ("/bin/sh", {}, len(content))
    assert found.fixed is None


def test_only_the_addresses_of_fetches_are_kept() -> None:
    """Of a fixed-output derivation the variables that name addresses stay, unescaped; others may be of any size."""
    environment = r'("big","x"),("url","a\nb\t\"\\\r,])"),("urls","")'
    found = parse_derivation(PATH, aterm(f'("out","{OUT}","sha256","{DIGEST}")', environment))
    assert found.environment == {"url": 'a\nb\t"\\\r,])', "urls": ""}


@pytest.mark.parametrize("method", ["sha256", "r:sha256"])
def test_a_fetch_is_told_with_its_hash_and_addresses(method: str) -> None:
    """The hash has the form in which a configuration gives it; addresses are found in every form of the attributes."""
    structured = json.dumps(json.dumps({"urls": ["https://b/3 (as\nagreed)", 4], "url": "https://b/5"}))
    environment = f'("__json",{structured}),("url","https://a/1"),("urls","https://a/2 mirror://gnu/x")'
    found = parse_derivation(PATH, aterm(f'("out","{OUT}","{method}","{DIGEST}")', environment))
    assert found.fixed is not None
    assert fetch_of(found, found.fixed) == Fetch(
        name="x",
        urls=("https://a/1", "https://a/2", "mirror://gnu/x", "https://b/5", "https://b/3", "(as", "agreed)"),
        hash=SRI,
        derivation=PATH,
        program="/bin/sh",
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Derive(",
        b"Derive([])",
        aterm(f'("out","{OUT}","","")') + b"x",
        b"DrvWithVersion" + aterm(f'("out","{OUT}","","")').removeprefix(b"Derive"),
        aterm('("out","","r:sha256","")'),
        aterm('("out","","r:sha256","impure")'),
        aterm(f'("out","{OUT}","r:sha256","")'),
        aterm(f'("out","{OUT}")'),
        aterm(f'("out","{OUT}","",[])'),
        b"Derive" + b"(" * 100_000,
    ],
)
def test_other_kinds_and_forms_are_refused(content: bytes) -> None:
    """A derivation that is not understood is not taken for one without fetches: the build fails."""
    with pytest.raises(BuildFailed):
        parse_derivation(PATH, content)


def test_large_derivations_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A derivation of more bytes, or of more parts, than one of a real system has is not taken apart."""
    file = tmp_path / "x.drv"
    content = aterm(f'("out","{OUT}","","")', '("k","' + "x" * 1000 + '")')
    file.write_bytes(content)
    assert read_derivation(file).size == len(content)
    monkeypatch.setattr(derivations, "_BYTES", len(content) - 1)
    with pytest.raises(BuildFailed, match="is larger than"):
        read_derivation(file)
    monkeypatch.setattr(derivations, "_TOKENS", 20)
    with pytest.raises(BuildFailed, match="not a derivation in a form that is known"):
        parse_derivation(PATH, content)


@given(st.binary(max_size=200) | st.text(alphabet='Derive()[],"\\a').map(str.encode))
def test_no_content_breaks_the_parser(content: bytes) -> None:
    """Whatever a file holds, it is a derivation or refused."""
    with suppress(BuildFailed):
        parse_derivation(PATH, content)


@needs_nix
def test_real_derivations_are_read(tmp_path: Path) -> None:
    """A script, a fetch by Nix itself and structured attributes, with every character, as real Nix writes them."""
    nix = OwnNix(tmp_path / "nix")
    plain = 'system = "x"; outputHashMode = "recursive"; outputHashAlgo = "sha256"; outputHash = "HASH";'
    common = f"__structuredAttrs = true; {plain}"
    expressions = {
        "script": 'derivation { name = "script"; system = "x"; builder = "/bin/sh"; value = "ä"; }',
        "fetch": 'import <nix/fetchurl.nix> { url = "http://h/f?a b"; sha256 = "HASH"; name = "fetch"; }',
        "strings": f'derivation {{ name = "strings"; url = "ä\\n\\"\\\\\t"; builder = "b"; {plain} }}',
        "structured": f'derivation {{ name = "structured"; urls = [ "u" ]; builder = "b"; {common} }}',
    }
    found = {}
    for name, expression in expressions.items():
        (tmp_path / f"{name}.nix").write_text(expression.replace("HASH", SRI))
        found[name] = read_derivation(Path(nix.run("nix-instantiate", str(tmp_path / f"{name}.nix")).strip()))
    assert found["strings"].environment["url"] == 'ä\n"\\\t'
    assert found["script"].fixed is None
    for name, program, urls in (("fetch", "builtin:fetchurl", ("http://h/f?a", "b")), ("structured", "b", ("u",))):
        fixed = found[name].fixed
        assert fixed is not None
        fetch = fetch_of(found[name], fixed)
        assert (fetch.name, fetch.hash, fetch.program, fetch.urls) == (name, SRI, program, urls)


PLAN = f"""\
warning: you don't have Internet access; disabling some network-dependent features
these 2 derivations will be built:
  /nix/store/{HASH}-a.drv
  /nix/store/{HASH}-b.drv
this path will be fetched (0.51 MiB download, 1.50 MiB unpacked):
  /nix/store/{HASH}-c
"""


def test_the_plan_of_nix_is_parsed() -> None:
    """The plan has the builds and the downloads, with their size; it is empty if everything is there."""
    builds = [f"/nix/store/{HASH}-a.drv", f"/nix/store/{HASH}-b.drv"]
    assert parse_plan(PLAN, STORE) == Plan(builds, [f"/nix/store/{HASH}-c"], 1.5 * 1024**2)
    assert parse_plan("", STORE) == Plan([], [], 0)
    noisy = PLAN.replace("these 2", "error (ignored): unable to download 'https://cache/x'\nthese 2")
    assert parse_plan(noisy, STORE) == parse_plan(PLAN, STORE)
    gib = PLAN.replace("1.50 MiB", "2.00 GiB")
    assert parse_plan(gib, STORE).unpacked_bytes == 2 * 1024**3


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("these 2", "these 3"), HiveError),
        (("will be built", "would be built"), HiveError),
        (("  /nix/store/", "  /elsewhere/"), HiveError),
        (("this path will be fetched", "this path will be downloaded"), HiveError),
        (("MiB unpacked", "unpacked"), HiveError),
        (("this path will be fetched", "these 2 derivations will be built:\nthis path will be fetched"), HiveError),
        (("this path will", "don't know how to build these paths:\n  /nix/store/x\nthis path will"), BuildFailed),
    ],
)
def test_another_form_of_the_plan_is_refused(change: tuple[str, str], error: type[Exception]) -> None:
    """Nothing is guessed: an answer that is not understood whole is an error."""
    with pytest.raises(error):
        parse_plan(PLAN.replace(*change), STORE)
