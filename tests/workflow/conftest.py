import pytest


@pytest.fixture
def project(made, tmp_path_factory):
    """A copy of the finished project, free to be changed."""
    return made.copy(tmp_path_factory.mktemp("copy"))
