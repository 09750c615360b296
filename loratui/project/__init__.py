"""The project folder: loratui.toml, pictures, runs."""

from loratui.project.project import FILE_NAME, Project

__all__ = ["FILE_NAME", "Project"]
