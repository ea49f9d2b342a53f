"""A real PostgreSQL: the folder of its programs comes in, a cluster of the tests' own in a temporary folder goes out, gone with them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict

# What a power cut would lose is of no interest here; a killed server loses nothing with these.
SETTINGS = ("fsync=off", "full_page_writes=off", "listen_addresses=", "max_connections=200")


class Cluster:
    """A running server, reached through a socket in `folder`; stop and start it to see what becomes of its clients."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(folder, self._user)
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8", *self._data)
        self.start()

    def start(self) -> None:
        """Serve, and return once it answers."""
        options = " ".join(f"-c {setting}" for setting in (*SETTINGS, f"unix_socket_directories={self._folder}"))
        self._run("pg_ctl", "start", "--wait", "--log", str(self._folder / "log"), "--options", options, *self._data)

    def stop(self) -> None:
        """Stop at once, as if killed."""
        self._run("pg_ctl", "stop", "--mode=immediate", *self._data)

    def create(self) -> str:
        """An empty database; returns its URL."""
        name = f"test_{uuid4().hex}"
        self._tell(f"CREATE DATABASE {name}")
        return self._url(name)

    def let_only_read(self, url: str) -> None:
        """Turn a database read-only, as after a failover to a server that follows: whoever is connected has to connect again."""
        name = _name(url)
        self._tell(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        self._tell(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    def let_write(self, url: str) -> None:
        """Turn it back. A connection that was made meanwhile can only read, and stays."""
        self._tell(f"ALTER DATABASE {_name(url)} RESET default_transaction_read_only")

    def _tell(self, statement: str) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    @property
    def _data(self) -> tuple[str, str]:
        return "-D", str(self._folder / "data")

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def _run(self, program: str, *arguments: str) -> None:
        # A server that inherits a pipe would hold it open.
        with (self._folder.parent / f"{self._folder.name}.out").open("w+b") as said:
            ended = subprocess.run(
                [self._programs / program, *arguments],
                user=self._user if os.geteuid() == 0 else None,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                check=False,
            )
            said.seek(0)
            if ended.returncode:
                raise RuntimeError(f"{program}: expected status 0, got {ended.returncode}: {said.read().decode(errors='replace')}")


def _name(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


@contextmanager
def cluster(programs: Path) -> Iterator[Cluster]:
    """A server of one's own, from an empty folder to its removal."""
    # Not below pytest's folder, which another user may not enter.
    with tempfile.TemporaryDirectory(prefix="undercurrent-postgres-") as above:
        Path(above).chmod(0o755)
        folder = Path(above) / "pg"
        folder.mkdir()
        running = Cluster(programs, folder)
        try:
            yield running
        finally:
            running.stop()
