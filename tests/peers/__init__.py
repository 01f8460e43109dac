"""Real servers for the tests, one file each, and a proxy that breaks connections.

    async with openssh(tmp_path) as peer:              # or vsftpd, proftpd, nginx, rclone
        peer.put("a.grib", b"...")                     # looked at and prepared on the disk
        async with FaultProxy(peer) as proxy:          # optional: in front of any peer
            proxy.fault = drop(after=64 * 1024)
            ... connect to proxy.peer instead of peer ...

Every server is an async context manager that takes a folder (`tmp_path`), serves on 127.0.0.1 at a
free port, gives a `Peer` and leaves no process behind. A missing program raises `ProgramMissing`,
which tests/conftest.py turns into a skip on a laptop and a failure in CI.
"""
