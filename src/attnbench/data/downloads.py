"""Published data sets: where their files are expected, and where missing files are downloaded from."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from tqdm import tqdm

from attnbench.data.errors import DataError
from attnbench.data.text_files import write_atomically


@dataclass(frozen=True)
class RemoteFile:
    """Public address of a file. `digest` (algorithm:hex) is of the download, or of the archive member in it."""

    url: str
    digest: str
    archive_member: str | None = None  # of a zip


_TIMEOUT_S = 30.0
_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1"

# SHA-256 of the unpacked files.
_MULTI30K_SHA256 = {
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
    "test_2016_flickr.lc.norm.tok.de": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    "test_2016_flickr.lc.norm.tok.en": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    "test_2016_flickr.lc.norm.tok.fr": "1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836",
    "test_2017_flickr.de": "c3078bc3b36808bf9d20eb2347ed6137016179ef59ec0d2b9b8ecc3fb2880081",
    "test_2017_flickr.en": "ce1450ddc5ab0834502579d77a170849952e15a2938b34cc503bdc25ebb4fb98",
    "test_2017_flickr.fr": "6f3764e31dac41e9455e612958bcfd4e877c5e15cd66df2c2b2be6d9bd83e5b6",
    "test_2017_flickr.lc.norm.tok.de": "02067e4a9402786a4fcb8c1b6f4307e4a5073ced64800abead5273b54f5f31f6",
    "test_2017_flickr.lc.norm.tok.en": "c9d1dfd7a26add989382e534af235af9f0f658b2a30e7eb0efdaf142496ee54f",
    "test_2017_flickr.lc.norm.tok.fr": "c0583117a47b31e8a6c6a97cfe8de153e462074668f4e994764fcc80b21d33b4",
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    "train.lc.norm.tok.de": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    "train.lc.norm.tok.en": "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    "train.lc.norm.tok.fr": "8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
    "val.lc.norm.tok.de": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "val.lc.norm.tok.en": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "val.lc.norm.tok.fr": "b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a",
}


def _build_multi30k_remote(name: str, sha256: str) -> RemoteFile:
    """Build the address of a Multi30k file."""
    path = f"tok/{name}" if ".tok." in name else f"raw/{name}.gz"
    return RemoteFile(f"{_MULTI30K}/{path}", f"sha256:{sha256}")


REMOTE_FILES: dict[str, dict[str, RemoteFile]] = {
    "multi30k": {name: _build_multi30k_remote(name, sha256) for name, sha256 in _MULTI30K_SHA256.items()},
    # The copy that d2l.ai uses.
    "fra-eng": {
        "fra.txt": RemoteFile(
            "http://d2l-data.s3-accelerate.amazonaws.com/fra-eng.zip",
            "sha1:94646ad1522d915e7b0f9296181140edcf86a4f5",
            "fra-eng/fra.txt",
        )
    },
}

# Files to download manually, without published checksums.
_HOME_PAGES = {
    "wmt14": "https://nlp.stanford.edu/projects/nmt/data/wmt14.en-de/ (train, newstest2013, newstest2014)",
    "multi30k": f"{_MULTI30K}/",
    "fra-eng": "https://www.manythings.org/anki/fra-eng.zip",
}


def locate_files(folder: str, names: Iterable[str], data: Path) -> dict[str, Path]:
    """Return the path of each file in `data`/`folder`; missing files are downloaded, checked and unpacked.

    Args:
        folder: folder of the data set.
        names: file names.
        data: folder of all data sets (`paths.data`).

    Raises:
        DataError: if a file is missing and has no public address, cannot be downloaded, or has a wrong checksum.
    """
    paths = {name: data / folder / name for name in sorted(set(names))}
    for name, path in paths.items():
        if not path.is_file():
            remote = REMOTE_FILES.get(folder, {}).get(name)
            if remote is None:
                raise DataError(
                    f"{path}: no such file; expected {name} of {_HOME_PAGES[folder]} there (paths.data={data})"
                )
            _download_file(remote, path)
    return paths


def _download_file(remote: RemoteFile, path: Path) -> None:
    packed = io.BytesIO()
    try:
        with urlopen(remote.url, timeout=_TIMEOUT_S) as response:
            size = int(response.headers.get("Content-Length", 0))
            with tqdm.wrapattr(response, "read", total=size, desc=f"downloading {path.name}", leave=False) as stream:
                shutil.copyfileobj(stream, packed)
        content = _unpack(packed.getvalue(), remote)
        algorithm, _, digest = remote.digest.partition(":")
        if digest not in {hashlib.new(algorithm, b).hexdigest() for b in (packed.getvalue(), content)}:
            raise ValueError(f"not the published file, whose {algorithm} is {digest}")
        write_atomically(path, content)
    except (OSError, EOFError, ValueError, KeyError, HTTPException, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: no such file, and {remote.url} gave none ({error}); expected it there: fetch it by "
            f"hand, or set paths.data (ATTNBENCH_DATA) to where {path.parent.name}/{path.name} lies"
        ) from error


def _unpack(packed: bytes, remote: RemoteFile) -> bytes:
    """Return the archive member of a download, or the whole download."""
    if remote.archive_member is not None:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            return archive.read(remote.archive_member)
    return gzip.decompress(packed) if remote.url.endswith(".gz") else packed


def describe_differences(folder: str, sha256: Mapping[str, str]) -> list[str]:
    """Return a note for each file that differs from the published one."""
    published = REMOTE_FILES.get(folder, {})
    return [
        f"{folder}/{name}: not the published file"
        for name, digest in sha256.items()
        if name in published and published[name].digest != f"sha256:{digest}"
    ]
