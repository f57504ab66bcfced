"""Makes each peer's own environment under .venv-peers. One that cannot be made is named, and left out.

python benchmarks/environments.py
"""

import shutil
import subprocess
import sys

from servers import PEER_SERVERS, PEER_VENVS, venv_of


def main() -> None:
    PEER_VENVS.mkdir(exist_ok=True)
    for server in PEER_SERVERS:
        made = venv_of(server) / ".made"
        if made.exists():
            continue
        print(f"installing {server.label} into {venv_of(server).name} ...", flush=True)
        pip = [str(venv_of(server) / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        try:
            subprocess.run([server.python or sys.executable, "-m", "venv", "--clear", venv_of(server)], check=True)
            subprocess.run([*pip, *server.needs], check=True)
            made.touch()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{server.label} will not be measured: {error}")
            shutil.rmtree(venv_of(server), ignore_errors=True)


if __name__ == "__main__":
    main()
