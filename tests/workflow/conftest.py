import pytest

from project import Project


@pytest.fixture
def project(made, tmp_path_factory):
    """A copy of the finished project, free to be changed."""
    return made.copy(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="session")
def author(once, made):
    """The finished project with a second module map, choices, report, paper and archive."""
    changes = {"figures__module_map__metric": ["operation_strength", "output_rms"]}

    def fill(folder):
        project = made.copy(folder)
        project.change(**changes)
        project.run("report", "paper")
        project.run("bundle")

    project = Project(once("author", fill), made.root)
    project.change(**changes)
    return project
