import pytest

from project import tiny_project


@pytest.fixture(scope="session")
def made(tmp_path_factory, root):
    """A project with all five figures made; not to be changed."""
    project = tiny_project(tmp_path_factory.mktemp("project"), root)
    project.run()
    return project


@pytest.fixture
def project(made, tmp_path_factory):
    """A copy of the finished project, free to be changed."""
    return made.copy(tmp_path_factory.mktemp("copy"))
