"""A real PostgreSQL server for the tests of this folder, where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path

import pytest
import sqlalchemy as sa


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server of our own in a temporary folder, or of the one in EASYTUNE_TEST_POSTGRES; else skips."""
    if url := os.environ.get("EASYTUNE_TEST_POSTGRES"):
        yield url
        return
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = sorted(glob("/usr/lib/postgresql/*/bin")) or [str(Path(shutil.which("initdb") or "/none").parent)]
    if not Path(programs[-1], "initdb").exists():
        pytest.skip("PostgreSQL's initdb is not installed (apt-get install postgresql)")
    user = _server_user()
    folder = Path(tempfile.mkdtemp(prefix="arena-postgres-"))
    folder.chmod(0o755)
    shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [str(Path(programs[-1], program)), *arguments]
        prefix = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []
        subprocess.run([*prefix, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=120)

    data, options = str(folder / "data"), f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=60"
    try:
        run("initdb", "-D", data, "-U", "arena", "--auth=trust", "-E", "UTF8")
        run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield f"postgresql+psycopg://arena@127.0.0.1:{port}/postgres"
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty database on that server."""
    name = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield sa.make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{(tmp_path / 'arena.db').as_posix()}"
    make: Callable[[str], str] = request.getfixturevalue
    return make("postgres_url")


def _server_user() -> str:
    """PostgreSQL refuses to run as root: its own account then, else ours."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("there is no account named postgres to run the server as")
