"""``python -m crackwatch`` is the console script."""

from crackwatch.cli import main

if __name__ == "__main__":
    main()
