"""`python -m ecpds` is the `ecpds` command."""

from ecpds.cli.main import main

raise SystemExit(main())
