"""What kind of file system a folder lies on."""

from __future__ import annotations

from pathlib import Path

_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ncpfs", "webdav", "afpfs"),
        *("lustre", "beegfs", "gpfs", "ceph", "glusterfs", "orangefs", "pvfs2", "ocfs2", "gfs2"),
    }
)


def file_system(folder: Path) -> str:
    """Type of the file system a folder lies on, as the mount table names it; empty when unknown."""
    import psutil

    try:
        mounts = psutil.disk_partitions(all=True)
    except (OSError, RuntimeError):
        return ""
    place = folder.resolve()
    best, kind = -1, ""
    for mount in mounts:
        # the last mount on a point is the one that shows
        if place.is_relative_to(mount.mountpoint) and len(mount.mountpoint) >= best:
            best, kind = len(mount.mountpoint), str(mount.fstype)
    return kind


def is_network(kind: str) -> bool:
    """Whether other machines may change files of such a file system without this one being told.

    Whatever is mounted through FUSE counts, as most of it is (sshfs, s3fs, rclone, glusterfs); not `fuseblk`.
    """
    return kind in _NETWORK or kind.startswith("fuse.")
