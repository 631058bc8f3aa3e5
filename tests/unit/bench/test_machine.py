"""Facts of a machine, read from what the kernel says."""

from pathlib import Path

from tests.bench.machine import cpu_model, file_system

MOUNTS = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1024k
23 21 254:16 / /srv/with\\040space rw - xfs /dev/vdb rw
24 22 254:32 / /tmp rw - btrfs /dev/vdc rw
"""


def test_the_longest_mount_point_holds_a_path() -> None:
    """A path below a mount point is on that file system and not on the root's."""
    assert file_system(MOUNTS, Path("/srv/with space/build")) == "xfs on /dev/vdb"


def test_a_mount_over_another_hides_it() -> None:
    """Of two mounts on one directory the later one is seen."""
    assert file_system(MOUNTS, Path("/tmp/x")) == "btrfs on /dev/vdc"


def test_a_mount_point_is_no_text_prefix() -> None:
    """`/tmpfiles` is not below `/tmp`."""
    assert file_system(MOUNTS, Path("/tmpfiles")) == "ext4 on /dev/vda"


def test_the_cpu_is_named_on_one_line() -> None:
    """Vendors pad the name with spaces."""
    assert cpu_model("processor\t: 0\nmodel name\t: Some CPU   @ 2.5GHz \nflags\t: fpu\n") == "Some CPU @ 2.5GHz"
