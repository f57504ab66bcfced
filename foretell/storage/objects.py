"""Files in an object store, S3, Google Cloud or Azure: as much of a ``Path`` as is needed, and the verbs of local files."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO, cast

from foretell.errors import Unavailable
from foretell.plugins import needs_extra

SCHEMES = ("s3://", "s3a://", "gs://", "az://", "abfs://", "abfss://")
BUFFER_BYTES = 2**20
RETRIES = 5
RETRY_TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True)
class ObjectPath:
    """A file, or all that begins with a name, in one bucket. ``key`` has no slash in front."""

    bucket: str
    key: str
    store: Any = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"), self.store)

    @property
    def name(self) -> str:
        return self.key.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return "." + self.name.rpartition(".")[2] if "." in self.name.lstrip(".") else ""

    @property
    def parent(self) -> "ObjectPath":
        return ObjectPath(self.bucket, self.key.rstrip("/").rpartition("/")[0], self.store)

    def with_name(self, name: str) -> "ObjectPath":
        return self.parent / name

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        return bool(self.key) and not self.key.endswith("/") and self._head() is not None

    def is_dir(self) -> bool:
        """Whether anything lies beneath this name."""
        return next(walk(self, hidden=True), None) is not None

    def open(self, mode: str = "rb") -> BinaryIO:
        """The object as a stream that can seek: it is fetched in pieces, as they are read. Raises OSError, Unavailable."""
        assert mode == "rb"
        with _converted(self):
            return cast(BinaryIO, io.BufferedReader(_Reader(self, self.size()), BUFFER_BYTES))

    def read_bytes(self) -> bytes:
        import obstore

        with _converted(self):
            return bytes(obstore.get(self.store, self.key).bytes())

    def size(self) -> int:
        """In bytes. Raises FileNotFoundError, Unavailable."""
        found = self._head()
        if found is None:
            raise FileNotFoundError(2, "there is no such object", str(self))
        return int(found["size"])

    def stamp(self) -> str:
        """Its size and what the store changes whenever the object is written. Raises FileNotFoundError, Unavailable."""
        found = self._head()
        if found is None:
            raise FileNotFoundError(2, "there is no such object", str(self))
        return _stamp(found)

    def unlink(self, missing_ok: bool = False) -> None:
        import obstore

        try:
            with _converted(self):
                obstore.delete(self.store, self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _head(self) -> Any:
        import obstore

        try:
            with _converted(self):
                return obstore.head(self.store, self.key)
        except FileNotFoundError:
            return None


def open_object(url: str) -> ObjectPath:
    """What a URL such as ``s3://bucket/folder/rows.csv`` names; credentials come as the store's own tools find them.

    Raises Setup ``missing_extra``, ``missing_file`` for a URL without a bucket.
    """
    with needs_extra(f"{url.partition('://')[0]}://", "objects"):
        from obstore.store import from_url
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    store = from_url(f"{scheme}://{bucket}", retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT})
    return ObjectPath(f"{scheme}://{bucket}", key, store)


def walk(folder: ObjectPath, *, hidden: bool = False) -> Iterator[ObjectPath]:
    """Every object under a name, in the order of their keys; hidden and private (``_``) names are passed over."""
    prefix = folder.key.rstrip("/") + "/" if folder.key else ""
    import obstore

    with _converted(folder):
        found = [str(entry["path"]) for page in obstore.list(folder.store, prefix or None) for entry in page]
    for key in sorted(found):
        inner = key.removeprefix(prefix)
        if hidden or not any(part.startswith((".", "_")) for part in inner.split("/")):
            yield ObjectPath(folder.bucket, key, folder.store)


@contextlib.contextmanager
def create(file: ObjectPath) -> Iterator[BinaryIO]:
    """A new object, gathered in a temporary file and sent at the end of the block: it is there whole, or not at all.

    Raises OSError, Unavailable.
    """
    import obstore

    with tempfile.TemporaryFile() as stream:
        yield cast(BinaryIO, stream)
        stream.seek(0)
        with _converted(file):
            obstore.put(file.store, file.key, cast(Any, stream))


class _Reader(io.RawIOBase):
    """An object as a raw stream: each read is one range."""

    def __init__(self, file: ObjectPath, size: int) -> None:
        self.file = file
        self.size = size
        self.place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence])
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.size - self.place)
        if count <= 0:
            return 0
        import obstore

        with _converted(self.file):
            data = obstore.get_range(self.file.store, self.file.key, start=self.place, length=count)
        buffer[: len(data)] = memoryview(data)
        self.place += len(data)
        return len(data)


def _stamp(found: Any) -> str:
    return f"{found['size']}-{found.get('e_tag') or found['last_modified'].isoformat()}"


@contextlib.contextmanager
def _converted(file: ObjectPath) -> Iterator[None]:
    """The store's own errors: FileNotFoundError and PermissionError as a disk would raise, all else Unavailable."""
    from obstore import exceptions

    try:
        yield
    except (FileNotFoundError, exceptions.NotFoundError) as error:
        raise FileNotFoundError(2, "there is no such object", str(file)) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise PermissionError(13, "the store does not allow it with these credentials", str(file)) from error
    except exceptions.BaseError as error:
        raise Unavailable("lost_store", f"{file}: the object store does not answer as it should: {_shorten(error)}") from error


def _shorten(error: Exception) -> str:
    """The first line, without the store's own dump of its error."""
    return str(error).strip().partition("\n")[0][:300]
