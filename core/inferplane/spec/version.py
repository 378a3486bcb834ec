"""The version of the contract. A minor adds, a major breaks; until the first release both may."""

SPEC_VERSION: tuple[int, int] = (0, 4)
"""(major, minor). A plugin says in its `PlatformSpec.api` which one it was built for."""

ENTRY_POINT_GROUP = f"inferplane.v{SPEC_VERSION[0]}"
"""The entry-point group that plugins of this major version register in."""
