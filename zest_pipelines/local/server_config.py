"""How the embedded server is set up: its settings, and who it lets in.

The files are written at each start, so that a new version's settings reach old data.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from zest_pipelines.local.os_user import OsUser
from zest_pipelines.local.postmaster import PORT

SUPERUSER = "postgres"


def configure(pgdata: Path, socket_dir: Path, user: OsUser) -> None:
    """Write the three files that the server reads when it starts, owned by `user`."""
    for name, text in (
        ("postgresql.conf", _settings(socket_dir)),
        ("pg_hba.conf", f"local all {SUPERUSER} peer map=owner\nlocal all all scram-sha-256\n"),
        ("pg_ident.conf", _owners(user)),
    ):
        path = pgdata / name
        path.write_text(text)
        path.chmod(0o600)
        user.own(path)


def _settings(socket_dir: Path) -> str:
    directory = str(socket_dir).replace("'", "''")
    return f"""\
# Written by zest at each start: changes made here are lost.
listen_addresses = ''
port = {PORT}
unix_socket_directories = '"{directory.replace('"', '""')}"'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 64MB
max_wal_size = 512MB
idle_in_transaction_session_timeout = 60s   # an open transaction holds back the reader of update events
timezone = 'UTC'
log_timezone = 'UTC'

# No patient data in the log. An error's message, detail and statement quote values, so errors are not
# logged at all ('log' leaves LOG, FATAL and PANIC); the others are second locks on the same door.
log_min_messages = log
log_error_verbosity = terse
log_min_error_statement = panic
log_statement = none
log_min_duration_statement = -1
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_checkpoints = off
log_line_prefix = '%m [%p] %q%u@%d '
"""


def _owners(user: OsUser) -> str:
    """Who may be superuser: this OS user, the server's, and root, who could be either."""
    names = {user.name, pwd.getpwuid(os.geteuid()).pw_name, "root"}
    return "".join(f'owner "{name}" {SUPERUSER}\n' for name in sorted(names))
