"""`python -m handrail`: the same as the command `handrail`."""

from __future__ import annotations

from handrail.cli.main import main

if __name__ == "__main__":
    main()
