"""The DDL of a random life: each method draws one statement of its kind, and says whether the server took it."""

from __future__ import annotations

from ddlstory import DBS, DEFAULTS, TYPES, Life, Name, Part

MOST_TABLES = 8


class Story(Life):
    """All kinds are drawn evenly. even: those that happened least once more, so that `counts` grow alike."""

    even = False

    def begin(self) -> None:
        for db in DBS:
            self.run(f"CREATE DATABASE {db} CHARACTER SET utf8mb4")
        self.run(f"USE {DBS[0]}")
        while len(self.tables()) < 4:
            self.create()
        for _ in range(20):
            self.transaction()

    def change_definition(self) -> None:
        kinds = [
            self.add, self.drop, self.rename_column, self.reorder, self.widen, self.rename_table, self.swap, self.truncate,
            self.drop_and_create, self.create_like, self.create_select, self.add_key, self.drop_key, self.primary_key,
            self.charset, self.create, self.several, self.drop_table, self.exchange_columns,
        ]  # fmt: skip
        if self.actions:
            kinds += [self.add_foreign_key, self.drop_foreign_key]
        kind = self.rng.choice(kinds)
        if self.even and self.rng.random() < 0.3:  # some kinds are refused more often
            kind = min(kinds, key=lambda each: self.counts[f"DDL {each.__name__}"])
            if self.full:
                self.drop_table()
        for _ in range(4):
            if kind():
                self.counts[f"DDL {kind.__name__}"] += 1
                return

    @property
    def full(self) -> bool:
        return len(self.tables()) >= MOST_TABLES

    def next_name(self) -> Name:
        return self.rng.choice(DBS), f"t{next(self.number)}"

    def next_column(self, prefix: str = "c") -> str:
        return f"{prefix}{next(self.number)}"

    # --- tables

    def create(self) -> bool:
        return not self.full and self.attempt(f"CREATE TABLE {self.ref(self.next_name())} {self.body()}")

    def body(self) -> str:
        """A random schema: no key, a primary key of one or more columns, or a unique key in its place."""
        handle = self.next_column("id")
        parts = [f"{handle} {self.rng.choice(['int', 'int unsigned', 'bigint'])} NOT NULL"]
        kinds = self.rng.choices(list(TYPES), k=self.rng.randint(1, 5))
        parts += [f"{self.next_column()} {kind} NULL" for kind in kinds]
        if self.actions and self.rng.random() < 0.5:
            parts.append(f"{self.next_column('f')} {self.rng.choice(['int', 'bigint'])} NULL")
        if self.rng.random() < 0.15:
            parts.append(f"{self.next_column('g')} bigint AS ({handle} + 1) {self.rng.choice(['STORED', 'VIRTUAL'])}")
        form = self.rng.choice(["primary", "primary", "auto", "composite", "composite", "unique", "none"])
        if form == "auto":
            parts[0] += " AUTO_INCREMENT"
        if form == "composite":
            other = self.rng.choice(["varchar(20)", "datetime", "decimal(8,2)", "binary(4)", "int"])
            second = self.next_column()
            parts.insert(self.rng.randint(0, 1), f"{second} {other} NOT NULL")
            keys = [handle, second]
            self.rng.shuffle(keys)
            parts.append(f"PRIMARY KEY ({', '.join(keys)})")
        elif form == "unique":
            parts.append(f"UNIQUE KEY ({handle})")
        elif form != "none":
            parts.append(f"PRIMARY KEY ({handle})")
        charset = self.rng.choice(["", "", " DEFAULT CHARACTER SET latin1", " CHARSET=utf8mb3"])
        return f"({', '.join(parts)}){charset}"

    def rename_table(self) -> bool:
        table, new = self.ref(self.pick()), self.ref(self.next_name())
        return self.attempt(
            f"RENAME TABLE {table} TO {new}" if self.rng.random() < 0.5 else f"ALTER TABLE {table} RENAME TO {new}"
        )

    def swap(self) -> bool:
        a, b = (f"`{db}`.`{name}`" for db, name in self.rng.sample(self.tables(), 2))
        return self.attempt(f"RENAME TABLE {a} TO {DBS[0]}.swapping, {b} TO {a}, {DBS[0]}.swapping TO {b}")

    def truncate(self) -> bool:
        return self.attempt(f"TRUNCATE TABLE {self.ref(self.pick())}")

    def drop_table(self) -> bool:
        return len(self.tables()) > 4 and self.attempt(f"DROP TABLE {self.ref(self.pick())}")

    def drop_and_create(self) -> bool:
        table = self.ref(self.pick())
        if self.server.flavor == "mariadb" and self.rng.random() < 0.3:
            return self.attempt(f"CREATE OR REPLACE TABLE {table} {self.body()}")
        return self.attempt(f"DROP TABLE {table}") and self.attempt(f"CREATE TABLE {table} {self.body()}")

    def create_like(self) -> bool:
        new, model = self.ref(self.next_name()), self.ref(self.pick())
        text = f"CREATE TABLE {new} LIKE {model}" if self.rng.random() < 0.7 else f"CREATE TABLE {new} (LIKE {model})"
        return not self.full and self.attempt(text)

    def create_select(self) -> bool:
        table = self.pick()
        key = f" (PRIMARY KEY (`{self.handle(self.shape(table))}`))" if self.rng.random() < 0.5 else ""
        new = self.ref(self.next_name())
        return not self.full and self.attempt(f"CREATE TABLE {new}{key} AS SELECT * FROM {self.ref(table)}")

    def charset(self) -> bool:
        charset = self.rng.choice(["utf8mb4", "utf8mb4", "utf8mb4", "utf8mb3"])
        return self.attempt(f"ALTER TABLE {self.ref(self.pick())} CONVERT TO CHARACTER SET {charset}")

    # --- columns

    def add(self) -> bool:
        table = self.pick()
        return self.attempt(f"ALTER TABLE {self.ref(table)} {self.adding(table)}")

    def adding(self, table: Name) -> str:
        kind = self.rng.choice(list(TYPES))
        default = DEFAULTS.get(kind)
        text = f"{kind} NULL"
        if default and self.rng.random() < 0.6:
            text = f"{kind} {self.rng.choice(['NOT NULL', 'NULL', ''])} DEFAULT {default}"
        elif self.rng.random() < 0.2:
            text = self.rng.choice(["int NOT NULL", "varchar(20) NOT NULL", "enum('a','b') NOT NULL"])
        place = self.rng.choice(["", " FIRST", f" AFTER `{self.rng.choice(self.shape(table)).name}`"])
        return f"ADD {self.rng.choice(['COLUMN ', ''])}{self.next_column()} {text}{place}"

    def drop(self) -> bool:
        table = self.pick()
        text = self.dropping(table)
        return text is not None and self.attempt(f"ALTER TABLE {self.ref(table)} {text}")

    def dropping(self, table: Name) -> str | None:
        parts = self.others(table)
        return f"DROP COLUMN `{self.rng.choice(parts).name}`" if len(parts) > 1 else None

    def rename_column(self) -> bool:
        table = self.pick()
        old = self.rng.choice([p for p in self.shape(table) if not p.generated])
        new = self.next_column("id" if old.name.startswith("id") else old.name[0])
        if self.rng.random() < 0.5:
            return self.attempt(f"ALTER TABLE {self.ref(table)} RENAME COLUMN `{old.name}` TO `{new}`")
        definition = Part(new, old.type, old.nullable, generated=False).definition
        return self.attempt(f"ALTER TABLE {self.ref(table)} CHANGE `{old.name}` {definition}")

    def exchange_columns(self) -> bool:
        """Several new names in one statement, some of which others just had."""
        table = self.pick()
        able = [p for p in self.shape(table) if p.name[0] == "c" and not p.generated]
        if len(able) < 2:
            return False
        parts = self.rng.sample(able, k=min(len(able), self.rng.randint(2, 3)))
        names = [p.name for p in (*parts[1:], parts[0])]
        if self.rng.random() < 0.3:
            names[-1] = self.next_column()
        clauses = [
            f"RENAME COLUMN `{part.name}` TO `{new}`"
            if self.rng.random() < 0.5
            else f"CHANGE `{part.name}` {Part(new, part.type, part.nullable, generated=False).definition}"
            for part, new in zip(parts, names, strict=True)
        ]
        self.rng.shuffle(clauses)
        return self.attempt(f"ALTER TABLE {self.ref(table)} {', '.join(clauses)}")

    def reorder(self) -> bool:
        table = self.pick()
        shape = self.shape(table)
        movable = [p for p in shape if not p.generated]
        moved = self.rng.choice(movable)
        after = [p.name for p in shape if p.name != moved.name]
        place = f"AFTER `{self.rng.choice(after)}`" if after and self.rng.random() < 0.7 else "FIRST"
        return self.attempt(f"ALTER TABLE {self.ref(table)} MODIFY {moved.definition} {place}")

    def widen(self) -> bool:
        table = self.pick()
        able = [
            Part(p.name, TYPES[p.type] or "", p.nullable, p.generated) for p in self.shape(table) if TYPES.get(p.type)
        ]
        able = [p for p in able if not p.generated]
        return bool(able) and self.attempt(f"ALTER TABLE {self.ref(table)} MODIFY {self.rng.choice(able).definition}")

    def several(self) -> bool:
        """Many clauses in one statement."""
        table = self.pick()
        clauses = [self.adding(table), self.adding(table), self.dropping(table)]
        if self.rng.random() < 0.3:
            db, name = self.next_name()
            clauses.append(f"RENAME TO {db}.{name}")
        if self.rng.random() < 0.3:
            clauses.append("COMMENT = 'several, clauses; here'")
        self.rng.shuffle(clauses)
        return self.attempt(f"ALTER TABLE {self.ref(table)} {', '.join(c for c in clauses if c)}")

    # --- keys

    def add_key(self) -> bool:
        table = self.pick()
        # Not of foreign keys: the server drops the index that it made for one when another fits, and only it knows which.
        parts = [p for p in self.shape(table) if p.name[0] != "f" and p.type.split("(")[0].split(" ")[0] in
                 ("int", "bigint", "smallint", "varchar", "date", "datetime", "decimal", "varbinary")]  # fmt: skip
        if not parts:
            return False
        columns = ", ".join(f"`{p.name}`" for p in self.rng.sample(parts, self.rng.randint(1, min(2, len(parts)))))
        unique, name = self.rng.choice(["UNIQUE ", "", ""]), self.next_column("k")
        if self.rng.random() < 0.3:
            return self.attempt(f"CREATE {unique}INDEX {name} ON {self.ref(table)} ({columns})")
        return self.attempt(f"ALTER TABLE {self.ref(table)} ADD {unique}KEY {name} ({columns})")

    def drop_key(self) -> bool:
        table = self.pick()
        keys = sorted({row[2] for row in self.run(f"SHOW KEYS FROM `{table[0]}`.`{table[1]}`")} - {"PRIMARY"})
        if not keys:
            return False
        key = self.rng.choice(keys)
        if self.rng.random() < 0.3:
            return self.attempt(f"DROP INDEX `{key}` ON {self.ref(table)}")
        return self.attempt(f"ALTER TABLE {self.ref(table)} DROP KEY `{key}`")

    def primary_key(self) -> bool:
        table = self.pick()
        shape = self.shape(table)
        handle = self.handle(shape)
        keys = {row[2] for row in self.run(f"SHOW KEYS FROM `{table[0]}`.`{table[1]}`")}
        if "PRIMARY" not in keys:
            return self.attempt(f"ALTER TABLE {self.ref(table)} ADD PRIMARY KEY (`{handle}`)")
        if self.rng.random() < 0.5:
            return self.attempt(f"ALTER TABLE {self.ref(table)} DROP PRIMARY KEY")
        able = [p.name for p in shape if not p.nullable and not p.generated and p.name != handle]
        columns = [handle, *self.rng.sample(able, min(1, len(able)))]
        self.rng.shuffle(columns)
        text = ", ".join(f"`{c}`" for c in columns)
        return self.attempt(f"ALTER TABLE {self.ref(table)} DROP PRIMARY KEY, ADD PRIMARY KEY ({text})")

    def add_foreign_key(self) -> bool:
        child, parent = self.pick(), self.pick()
        free = [p for p in self.shape(child) if p.name[0] == "f" and self.parent_of(child, p.name) is None]
        handle = next(p for p in self.shape(parent) if p.name.startswith("id"))
        name = f"CONSTRAINT {self.next_column('fk')} " if self.rng.random() < 0.5 else ""
        if free and self.rng.random() < 0.5:
            column, added = self.rng.choice(free).name, ""
            self.attempt(f"UPDATE `{child[0]}`.`{child[1]}` SET `{column}` = NULL")
        else:
            column = self.next_column("f")
            added = f"ADD {column} {handle.type} NULL, "
        return self.attempt(
            f"ALTER TABLE {self.ref(child)} {added}ADD {name}FOREIGN KEY (`{column}`) REFERENCES {self.ref(parent)} "
            f"(`{handle.name}`) {self.rng.choice(self.actions)}"
        )

    def drop_foreign_key(self) -> bool:
        rows = self.run(
            "SELECT table_schema, table_name, constraint_name FROM information_schema.table_constraints WHERE "
            f"constraint_type = 'FOREIGN KEY' AND table_schema IN {DBS}"
        )
        if len(rows) < 2:
            return False
        db, name, constraint = self.rng.choice(sorted(rows))
        return self.attempt(f"ALTER TABLE {self.ref((db, name))} DROP FOREIGN KEY `{constraint}`")
