"""What pyproject.toml cannot say: README.md, with links that lead somewhere from elsewhere too."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
PROJECT = (HERE / "pyproject.toml").read_text(encoding="utf-8")
SOURCE = re.findall(r'^Source = "(.+)"$', PROJECT, re.MULTILINE)[0]
README = (HERE / "README.md").read_text(encoding="utf-8")

setup(
    long_description=re.sub(r"(\]\()(?!\w+:|#)", rf"\1{SOURCE}/blob/main/", README),
    long_description_content_type="text/markdown",
)
