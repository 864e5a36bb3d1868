"""Letters as a server with lower_case_table_names=1 puts them in lower case in the names of tables and databases.

Such servers lower names letter by letter by their table for utf8mb3_general_ci, which is Unicode's of about the year 2000
(my_casedn_str with my_unicase_default: MySQL's strings/ctype-utf8.cc, MariaDB's strings/ctype-utf8.c). All its 670 letters
beyond ASCII were tried as names on MySQL 9.7 and MariaDB 10.11, and those that only later versions of Unicode know a lower
case of: these two servers keep such letters, other versions may not, and so names with one of them aren't `certain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

# Where letters with a lower case stand, in hex; those in a range that have none are lower case themselves.
_RANGES: Final = (
    "41-5a c0-de 100-136 139-147 14a-17d 181-18b 18e-198 19c-1a9 1ac-1b8 1bc 1c4-1db 1de-1ee 1f1-21e 222-232 386-3ab "
    "3da-3ee 400-42f 460-480 48c-4be 4c1-4c3 4c7 4cb 4d0-4f4 4f8 531-556 1e00-1e94 1ea0-1ef8 1f08-1f0f 1f18-1f1d "
    "1f28-1f2f 1f38-1f3f 1f48-1f4d 1f59-1f5f 1f68-1f6f 1f88-1f8f 1f98-1f9f 1fa8-1faf 1fb8-1fbc 1fc8-1fcc 1fd8-1fdb "
    "1fe8-1fec 1ff8-1ffc 2126 212a-212b 2160-216f 24b6-24cf ff21-ff3a"
)


def _letters() -> Iterator[tuple[int, str]]:
    for part in _RANGES.split():
        first, _, last = part.partition("-")
        for number in range(int(first, 16), int(last or first, 16) + 1):
            # Of a letter that becomes two (only the dotted I does) the servers take the first.
            yield number, chr(number).lower()[0]


LOWER: Final = {number: small for number, small in _letters() if chr(number) != small}


def lowered(name: str) -> str:
    return name.translate(LOWER)


def certain(name: str) -> bool:
    """Whether it is known what any server makes of the name."""
    return all(ord(letter) in LOWER or letter.lower() == letter for letter in name)
