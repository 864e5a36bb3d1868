"""A real replica of a source that can be stopped at a transaction: an oracle that shares nothing with Rowback."""

from __future__ import annotations

from rowback import wait_for

from testservers import Server


class Standby:
    """Replicates everything into its relay log, and applies it up to where it is told. `advance` only goes forward."""

    def __init__(self, source: Server, server: Server) -> None:
        self.server, self.mysql = server, source.flavor == "mysql"
        self.file = source.binlog_files()[0].name
        new = {"SOURCE_HOST": f"'{source.host}'", "SOURCE_PORT": source.port, "SOURCE_USER": "'root'",
               "SOURCE_LOG_FILE": f"'{self.file}'", "SOURCE_LOG_POS": 4}  # fmt: skip
        if self.mysql:
            settings = ", ".join(f"{k} = {v}" for k, v in {**new, "GET_SOURCE_PUBLIC_KEY": 1}.items())
            server.execute(f"CHANGE REPLICATION SOURCE TO {settings}")
        else:
            settings = ", ".join(f"{k.replace('SOURCE', 'MASTER')} = {v}" for k, v in new.items())
            server.execute(f"CHANGE MASTER TO {settings}, MASTER_USE_GTID = no")
        self.word = "REPLICA" if self.mysql else "SLAVE"
        server.execute(f"START {self.word} IO_THREAD")

    def advance(self, file: str, position: int) -> None:
        """Apply every transaction that ends at or before the position, which is a transaction's end, and no other."""
        prefix = "SOURCE" if self.mysql else "MASTER"
        until = f"{prefix}_LOG_FILE = '{file}', {prefix}_LOG_POS = {position}"
        self.server.execute(f"START {self.word} SQL_THREAD UNTIL {until}")
        wait_for(lambda: self._stopped(file, position), 120, "the replica to reach the position")

    def _stopped(self, file: str, position: int) -> bool:
        with self.server.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SHOW {self.word} STATUS")
            names = [column[0].replace("Replica", "Slave").replace("Source", "Master") for column in cursor.description]
            status = dict(zip(names, cursor.fetchone() or (), strict=True))
        assert not status["Last_SQL_Error"], status["Last_SQL_Error"]
        assert not status["Last_IO_Error"], status["Last_IO_Error"]
        reached = status["Relay_Master_Log_File"], int(status["Exec_Master_Log_Pos"])
        if status["Slave_SQL_Running"] == "Yes":
            if reached == (file, position):  # MariaDB's stops when it sees the next event, and there may be none
                self.server.execute(f"STOP {self.word} SQL_THREAD")
            return False
        assert reached == (file, position), (reached, file, position)
        return True
