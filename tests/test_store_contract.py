"""One suite for every store, then what only one of them can meet: a full disk, symbolic links, lost answers."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faultproxy import Fault, FaultProxy

from recovery.archive import filestore, s3store
from recovery.archive.filestore import FileStore
from recovery.archive.s3store import S3Store
from recovery.archive.store import TEMP_PREFIX, Store, check_put_if_absent, open_store
from recovery.config import ArchiveSettings, S3Settings
from recovery.errors import (
    ConfigError,
    ObjectExists,
    ObjectNotFound,
    StoreError,
    StoreFull,
    StoreNotConditional,
    StoreUnavailable,
)
from testservers import S3Bucket

STORES = ["file", pytest.param("s3", marks=pytest.mark.sockets), pytest.param("s3-whole", marks=pytest.mark.sockets)]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return open_store(ArchiveSettings(root=f"file://{tmp_path}/not there yet"))
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    prefix = "/some/prefix/" if request.param == "s3" else ""
    settings = S3Settings(endpoint_url=bucket.endpoint_url)
    return open_store(ArchiveSettings(root=f"s3://{bucket.name}{prefix}", s3=settings))


def keys(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    return [info.key for info in store.list(prefix, start_after)]


# --- the contract -----------------------------------------------------------------------------------------------------


def test_what_was_put_is_read_back_and_overwritten(store: Store) -> None:
    store.put("a/b", b"one")
    assert store.get("a/b") == b"one"
    store.put("a/b", b"")
    assert store.get("a/b") == b""


def test_missing_objects(store: Store, tmp_path: Path) -> None:
    assert keys(store) == []
    assert store.stat("a/b") is None
    store.delete("a/b")
    for read in (lambda: store.get("a/b"), lambda: store.download("a/b", tmp_path / "out")):
        with pytest.raises(ObjectNotFound, match="a/b"):
            read()
    assert os.listdir(tmp_path) == []
    store.put("a/b/c", b"")
    assert store.stat("a/b") is None
    with pytest.raises(ObjectNotFound):
        store.get("a/b")


def test_put_if_absent_keeps_the_first(store: Store) -> None:
    store.put_if_absent("log/1", b"first")
    with pytest.raises(ObjectExists, match="log/1"):
        store.put_if_absent("log/1", b"second")
    assert store.get("log/1") == b"first"
    store.delete("log/1")
    store.put_if_absent("log/1", b"third")
    assert store.get("log/1") == b"third"


def test_of_many_concurrent_writers_exactly_one_wins(store: Store) -> None:
    writers, rounds = 12, 8
    start = threading.Barrier(writers)

    def write(me: int) -> list[int]:
        won = []
        for number in range(rounds):
            start.wait()
            with contextlib.suppress(ObjectExists):
                store.put_if_absent(f"log/{number}", f"{me}".encode() * 1000)
                won.append(number)
        return won

    with ThreadPoolExecutor(writers) as pool:
        wins = dict(enumerate(pool.map(write, range(writers))))
    assert sorted(number for won in wins.values() for number in won) == list(range(rounds))
    for me, won in wins.items():
        for number in won:
            assert store.get(f"log/{number}") == f"{me}".encode() * 1000


def test_list_is_in_byte_order_of_the_whole_key(store: Store) -> None:
    names = ["a", "a-b", "a.c", "a/b", "a/b-c", "a/b/c", "a0", "b/%2E%2E.t/x", "B/x", "é/x", "z/ü", "z/\U0001f600"]
    if not isinstance(store, FileStore):  # a folder can't be a file too; a bucket has no folders
        names.append("a/b/c/d")
    else:
        names.remove("a/b")
        names.remove("a")
    for name in names:
        store.put(name, b"x")
    ordered = sorted(names, key=str.encode)
    assert keys(store) == ordered
    for prefix in ("a", "a/", "a/b", "a/b/", "z/", "nothing", "nothing/here"):
        assert keys(store, prefix) == [n for n in ordered if n.startswith(prefix)], prefix
    for after in [*ordered, "0", "a/", "a/b/zz", "zz"]:
        assert keys(store, "", after) == [n for n in ordered if n.encode() > after.encode()], after
    assert keys(store, "a/b", "a/b-c") == [n for n in ordered if n.startswith("a/b") and n > "a/b-c"]


def test_list_has_more_than_a_page(store: Store) -> None:
    names = [f"log/{n:020d}.json" for n in range(1, 1102)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    assert keys(store, "log/") == names
    assert keys(store, "log/", names[1049]) == names[1050:]


def test_stat_and_list_describe_an_object(store: Store) -> None:
    store.put("a/b", b"12345")
    info = store.stat("a/b")
    assert info is not None
    assert (info.key, info.size_bytes) == ("a/b", 5)
    assert info.modified_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - info.modified_at) < timedelta(minutes=1)
    (listed,) = store.list("a/")
    assert (listed.key, listed.size_bytes) == (info.key, info.size_bytes)
    assert abs(listed.modified_at - info.modified_at) < timedelta(seconds=1)  # HEAD has whole seconds


@pytest.mark.parametrize("size", [0, 1, 40 * 1024 * 1024 + 17])
def test_files_go_up_and_come_down(store: Store, tmp_path: Path, size: int) -> None:
    work = tmp_path / "work"
    work.mkdir()
    source = work / "source"
    source.write_bytes(os.urandom(1024) * (size // 1024) + b"\1" * (size % 1024))
    store.upload("big/file", source)
    store.download("big/file", work / "copy")
    assert (work / "copy").read_bytes() == source.read_bytes()
    info = store.stat("big/file")
    assert info is not None
    assert info.size_bytes == size
    assert sorted(os.listdir(work)) == ["copy", "source"]
    with pytest.raises(StoreError, match="nowhere"):
        store.upload("big/other", work / "nowhere")
    with pytest.raises(StoreError, match="no such file"):
        store.download("big/file", work / "no folder" / "copy")
    assert keys(store) == ["big/file"]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "a/.", "a/", "a\0b", "x" * 2000])
def test_bad_names_are_refused(store: Store, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.put_if_absent(key, b""),
        lambda: store.stat(key),
        lambda: store.delete(key),
    ]
    for call in calls:
        with pytest.raises(StoreError):
            call()


def test_check_put_if_absent_passes_and_leaves_nothing(store: Store) -> None:
    check_put_if_absent(store, "default/shop/")
    assert keys(store) == []


# --- choosing a store -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "root",
    ["", "/srv/rowback", "file://srv/rowback", "file:srv", "ftp://x/y", "s3://", "s3:///x", "s3://AKIA:s3cr3t@b/x"],
)
def test_a_root_that_names_no_store_is_a_configuration_error(root: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(ArchiveSettings.model_construct(root=root))  # the settings' own check stands before this one
    assert caught.value.hint
    assert "s3cr3t" not in str(caught.value)


def test_file_roots(tmp_path: Path) -> None:
    for root in (f"file://{tmp_path}/a%20b/", f"file://localhost{tmp_path}/a b"):
        store = open_store(ArchiveSettings(root=root))
        assert isinstance(store, FileStore)
        assert store.root == f"{tmp_path}/a b"
    assert os.listdir(tmp_path) == []  # nothing is made before the first write


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "root")


def everything(root: str | Path) -> list[str]:
    return sorted(os.path.relpath(os.path.join(at, f), root) for at, _, files in os.walk(root) for f in files)


def test_symbolic_links_below_the_root_are_not_followed(folder: FileStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    folder.put("a/b", b"x")
    os.symlink(outside, Path(folder.root) / "link")
    os.symlink(outside / "secret", Path(folder.root) / "a" / "file")
    for key in ("link/secret", "a/file", "link/new"):
        for call in (folder.get, folder.stat, folder.delete, lambda k: folder.put(k, b"y")):
            with pytest.raises(StoreError, match="symbolic link"):
                call(key)
    assert keys(folder) == ["a/b"]
    assert os.listdir(outside) == ["secret"]


def test_leftovers_of_a_killed_writer_are_not_listed(folder: FileStore) -> None:
    folder.put("log/1", b"x")
    (Path(folder.root) / "log" / f"{TEMP_PREFIX}00").write_bytes(b"half")
    assert keys(folder) == ["log/1"]
    with pytest.raises(StoreError):
        folder.get(f"log/{TEMP_PREFIX}00")


WRITES: list[Callable[[Store, bytes, Path], None]] = [
    lambda store, body, _: store.put("log/2", body),
    lambda store, body, _: store.put_if_absent("log/2", body),
    lambda store, body, path: (path.write_bytes(body), store.upload("log/2", path))[1],
]


@pytest.mark.parametrize("write", WRITES, ids=["put", "put_if_absent", "upload"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_at_fsync(
    folder: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., None], number: int
) -> None:
    """File systems that allocate late report a full disk only when they flush."""
    folder.put("log/1", b"whole")

    def full(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filestore.os, "fsync", full)
    with pytest.raises(StoreFull, match="log/2"):
        write(folder, b"x" * 100, tmp_path / "source")
    assert everything(folder.root) == ["log/1"]


@pytest.mark.parametrize("write", WRITES, ids=["put", "put_if_absent", "upload"])
def test_no_space_in_the_middle_of_a_write(folder: FileStore, tmp_path: Path, write: Callable[..., None]) -> None:
    folder.put("log/1", b"whole")
    body = b"x" * 300_000
    (tmp_path / "source").write_bytes(body)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    upload = write is WRITES[2]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StoreFull):
            if upload:
                folder.upload("log/2", tmp_path / "source")
            else:
                write(folder, body, tmp_path / "source")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert everything(folder.root) == ["log/1"]


@pytest.mark.parametrize("write", WRITES, ids=["put", "put_if_absent", "upload"])
def test_content_is_on_disk_before_its_name_and_the_name_before_the_return(
    folder: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., None]
) -> None:
    done: list[str] = []

    def recorded(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object, **kwargs: object) -> None:
            target = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else str(args[1])
            done.append(f"{name} {'temp' if TEMP_PREFIX in target else os.path.relpath(target, tmp_path)}")
            real(*args, **kwargs)

        return call

    for name in ("fsync", "link", "replace"):
        monkeypatch.setattr(filestore.os, name, recorded(name, getattr(os, name)))
    write(folder, b"x", tmp_path / "source")
    publish = "link" if write is WRITES[1] else "replace"
    assert done == ["fsync .", "fsync root", "fsync temp", f"{publish} root/log/2", "fsync root/log"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs (run as root); the two tests above stand in for it")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_loses_nothing_and_mends_by_itself(small_disk: Path) -> None:
    store = FileStore(small_disk / "root")
    written = []
    with pytest.raises(StoreFull, match="no space left"):
        for number in range(100):
            store.put_if_absent(f"log/{number:03d}", bytes([number]) * 20_000)
            written.append(number)
    assert 5 < len(written) < 20
    assert everything(store.root) == [f"log/{number:03d}" for number in written]
    assert all(store.get(f"log/{n:03d}") == bytes([n]) * 20_000 for n in written)
    store.delete("log/000")
    store.put_if_absent(f"log/{len(written):03d}", b"x" * 20_000)


def test_a_folder_without_permission(folder: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> int:  # root may write anywhere, so the refusal is played
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(filestore.os, "open", denied)
    with pytest.raises(StoreError, match="permission denied") as caught:
        folder.put("a/b", b"")
    assert folder.root in caught.value.hint
    assert not caught.value.retryable


def test_an_error_of_the_last_fsync_leaves_the_outcome_open(folder: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put("log/1", b"x")

    def broken(_: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(filestore, "_sync_folder", broken)
    with pytest.raises(StoreUnavailable, match="may not be on disk"):
        folder.put_if_absent("log/2", b"y")
    assert folder.get("log/2") == b"y"


def test_without_hard_links_rename_decides(folder: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(filestore.os, "link", no_links)
    test_put_if_absent_keeps_the_first(FileStore(tmp_path / "other"))
    test_of_many_concurrent_writers_exactly_one_wins(folder)
    assert not [name for name in everything(folder.root) if TEMP_PREFIX in name]

    def no_rename(temp: str, path: str) -> int:
        raise StoreNotConditional("neither", hint="x")

    monkeypatch.setattr(filestore, "_rename_noreplace", no_rename)
    with pytest.raises(StoreNotConditional):
        folder.put_if_absent("other", b"")
    assert "other" not in everything(folder.root)


def test_writers_and_deleters_of_one_folder(folder: FileStore) -> None:
    """`delete` removes empty folders; a writer that had just made one makes it again."""

    def churn(me: int) -> None:
        for number in range(150):
            folder.put(f"deep/er/{me}-{number}", b"x")
            folder.delete(f"deep/er/{me}-{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(churn, range(6)))
    assert os.listdir(folder.root) == []


def test_a_killed_writer_never_leaves_half_an_object(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from recovery.archive.filestore import FileStore\n"
        "store = FileStore(pathlib.Path(sys.argv[1])); print('go', flush=True); n = 0\n"
        "while True: store.put_if_absent(f'log/{n:06d}', b'x' * 200_000); n += 1\n"
    )
    store = FileStore(tmp_path)
    here = Path(__file__).parent.parent
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=here)
        assert process.stdout is not None
        process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.15)
        process.kill()
        process.wait()
        process.stdout.close()
        listed = list(store.list(""))
        assert [info.key for info in listed] == [f"log/{n:06d}" for n in range(len(listed))]
        assert all(info.size_bytes == 200_000 for info in listed)
        for info in listed:
            store.delete(info.key)


# --- S3 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_bucket: S3Bucket) -> Iterator[FaultProxy]:
    with FaultProxy(s3_bucket.endpoint_url) as running:
        yield running


@pytest.fixture
def proxied(s3_bucket: S3Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    monkeypatch.setattr(s3store, "READ_TIMEOUT_S", 1)
    return S3Store(s3_bucket.name, "p", S3Settings(endpoint_url=proxy.url))


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.UNAVAILABLE, Fault.STALL_AFTER, Fault.CUT_BODY])
def test_passing_trouble_is_retried_out_of_sight(proxied: S3Store, proxy: FaultProxy, fault: Fault) -> None:
    proxied.put("a", b"body" * 1000)
    proxy.fail("GET", "/p/a", fault)
    assert proxied.get("a") == b"body" * 1000
    if fault is not Fault.CUT_BODY:
        proxy.fail("PUT", "/p/b", fault)
        proxied.put("b", b"b")
        assert proxied.get("b") == b"b"


def test_retries_are_bounded(proxied: S3Store, proxy: FaultProxy) -> None:
    proxy.fail("PUT", "/p/a", Fault.UNAVAILABLE, times=1000)
    with pytest.raises(StoreUnavailable, match="SlowDown"):
        proxied.put("a", b"x")
    assert len(proxy.served) == s3store.ATTEMPTS


def test_a_lost_answer_shows_as_somebody_elses_object(proxied: S3Store, proxy: FaultProxy) -> None:
    """The trap that the log's read-back is for: boto3 meets its own success."""
    proxy.fail("PUT", "/p/log", Fault.CUT_AFTER)
    with pytest.raises(ObjectExists):
        proxied.put_if_absent("log", b"mine")
    assert proxied.get("log") == b"mine"


def test_a_conflict_leaves_the_outcome_open(proxied: S3Store, proxy: FaultProxy) -> None:
    proxy.fail("PUT", "/p/log", Fault.CONFLICT)
    with pytest.raises(StoreUnavailable, match="ConditionalRequestConflict"):
        proxied.put_if_absent("log", b"mine")


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        (Fault.DENIED, "s3:PutObject"),
        (Fault.WRONG_KEY, "AWS_ACCESS_KEY_ID"),
        (Fault.WRONG_SECRET, "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_refusals_say_what_to_do(
    proxied: S3Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault, hint: str
) -> None:
    proxy.fail("PUT", "/p/a", fault)
    with pytest.raises(StoreError, match="`a`") as caught:
        proxied.put("a", b"")
    assert hint in caught.value.hint
    assert not caught.value.retryable
    assert "testing" not in str(caught.value)


def test_an_upload_that_is_refused(proxied: S3Store, proxy: FaultProxy, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    proxy.fail("PUT", "/p/a", Fault.DENIED)
    with pytest.raises(StoreError) as caught:
        proxied.upload("a", tmp_path / "x")
    assert "s3:PutObject" in caught.value.hint


def test_a_download_that_breaks_leaves_nothing(proxied: S3Store, proxy: FaultProxy, tmp_path: Path) -> None:
    proxied.put("a", b"x" * 100_000)
    proxy.fail("GET", "/p/a", Fault.CUT_BODY, times=1000)
    with pytest.raises(StoreUnavailable):
        proxied.download("a", tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_a_store_that_ignores_the_condition_is_refused(proxied: S3Store, proxy: FaultProxy) -> None:
    proxy.fail("PUT", "/p/", Fault.DROP_CONDITION, times=2)
    with pytest.raises(StoreNotConditional):
        check_put_if_absent(proxied, "default/shop/")
    proxy.fail("PUT", "/p/", Fault.NOT_IMPLEMENTED)
    with pytest.raises(StoreNotConditional):
        check_put_if_absent(proxied, "default/shop/")
    proxy.fail("PUT", "/p/", Fault.CUT_AFTER)
    check_put_if_absent(proxied, "default/shop/")
    assert keys(proxied) == []


def test_a_missing_bucket(s3_bucket: S3Bucket) -> None:
    store = S3Store("no-such-bucket", "", S3Settings(endpoint_url=s3_bucket.endpoint_url))
    for call in (lambda: store.put("a", b""), lambda: keys(store), lambda: store.get("a")):
        with pytest.raises(StoreError, match="NoSuchBucket") as caught:
            call()
        assert "Create the bucket" in caught.value.hint


@pytest.mark.sockets
def test_an_endpoint_that_nobody_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    store = S3Store("b", "", S3Settings(endpoint_url="http://user:s3cr3t@127.0.0.1:9", region="eu-west-1"))
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9") as caught:
        store.get("a")
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ConfigError):
        S3Store("b", "", S3Settings(endpoint_url="not an address"))


def test_no_credentials(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = S3Store(s3_bucket.name, "", S3Settings(endpoint_url=s3_bucket.endpoint_url))
    with pytest.raises(StoreError, match="credentials") as caught:
        store.put("a", b"")
    assert "AWS_PROFILE" in caught.value.hint


def test_objects_are_encrypted_with_the_given_key(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 20_000_000)
    store = S3Store(s3_bucket.name, "p", S3Settings(endpoint_url=s3_bucket.endpoint_url, kms_key_id="alias/rowback"))
    store.put("a", b"")
    store.put_if_absent("b", b"")
    store.upload("c", tmp_path / "x")
    for key in "abc":
        head = s3_bucket.client().head_object(Bucket=s3_bucket.name, Key=f"p/{key}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/rowback")


def test_folder_markers_of_consoles_are_not_listed(s3_bucket: S3Bucket) -> None:
    s3_bucket.client().put_object(Bucket=s3_bucket.name, Key="p/log/", Body=b"")
    store = S3Store(s3_bucket.name, "p", S3Settings(endpoint_url=s3_bucket.endpoint_url))
    store.put("log/1", b"")
    assert keys(store) == ["log/1"]
