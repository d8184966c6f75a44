"""The PostgreSQL servers of the tests behave as an RDS would."""

import contextlib
import os
import ssl

import pg8000.native
import pytest

from stack import binaries
from stack.certificates import Authority, session_authority
from stack.postgres import Login, Server

LATEST = max(binaries.available(), default=0)


def test_the_master_logs_in_over_verified_tls_and_is_no_superuser(pg_server: Server) -> None:
    with contextlib.closing(pg_server.connect(*pg_server.master)) as master:
        assert master.run("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [[True]]
        assert master.run("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user") == [
            [False, True, True]
        ]
        assert master.run("SELECT pg_has_role('rds_superuser', 'MEMBER')") == [[True]]


def test_the_version_is_the_one_asked_for(pg_server: Server, postgres_version: int) -> None:
    [[number]] = pg_server.run_as_superuser("SELECT current_setting('server_version_num')::int / 10000")
    assert number == postgres_version


def test_a_connection_without_tls_is_refused(latest_server: Server) -> None:
    username, password = latest_server.master
    with pytest.raises(pg8000.native.DatabaseError, match="28000"):
        pg8000.native.Connection(
            username, password=password, host="localhost", port=latest_server.port, ssl_context=False
        )


def test_a_wrong_password_is_refused(latest_server: Server) -> None:
    with pytest.raises(pg8000.native.DatabaseError, match="28P01"):
        latest_server.connect("platform_admin", "not the password")


def test_reset_leaves_no_database_role_grant_or_comment_of_a_test(pg_server: Server) -> None:
    with contextlib.closing(pg_server.connect(*pg_server.master)) as master:
        master.run("CREATE ROLE left_over LOGIN CONNECTION LIMIT 3")
        master.run("CREATE ROLE a_member ROLE left_over")
        master.run("GRANT left_over TO CURRENT_USER")
        master.run("CREATE DATABASE left_over OWNER left_over TEMPLATE template0")
    session = pg_server.connect(*pg_server.master)
    pg_server.run_as_superuser("REVOKE ALL ON DATABASE postgres FROM PUBLIC; CREATE TABLE of_a_test (id int)")

    pg_server.reset()

    with contextlib.suppress(pg8000.native.InterfaceError, OSError):
        session.close()
    databases = pg_server.run_as_superuser("SELECT datname FROM pg_database ORDER BY 1")
    roles = pg_server.run_as_superuser("SELECT rolname FROM pg_roles WHERE oid >= 16384 ORDER BY 1")
    assert databases == [["postgres"], ["template0"], ["template1"]]
    assert [name for (name,) in roles] == [
        "platform_admin",
        "rds_iam",
        "rds_password",
        "rds_replication",
        "rds_superuser",
    ]
    assert pg_server.run_as_superuser("SELECT datacl IS NULL FROM pg_database WHERE datname = 'postgres'") == [[True]]
    assert pg_server.run_as_superuser("SELECT count(*) FROM pg_class WHERE relname = 'of_a_test'") == [[0]]
    pg_server.connect(*pg_server.master).close()


WRITTEN = {
    "an object": "CREATE TABLE of_a_test (id int)",
    "a right of everybody": "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON LANGUAGE sql TO pg_monitor",
    "what is gone again": "CREATE TABLE of_a_test (id int); DROP TABLE of_a_test",
    "a comment": "COMMENT ON DATABASE postgres IS 'of a test'",
    "an owner": "ALTER DATABASE postgres OWNER TO platform_admin",
    "a setting": "ALTER DATABASE postgres SET search_path = of_a_test",
    "a setting for a role": "ALTER ROLE platform_admin IN DATABASE postgres SET search_path = of_a_test",
}


@pytest.mark.parametrize("what", WRITTEN)
def test_postgres_is_made_anew_where_anything_was_written_in_it_or_about_it(latest_server: Server, what: str) -> None:
    before = number_of_postgres(latest_server)
    latest_server.run_as_superuser(WRITTEN[what])
    latest_server.reset()
    assert number_of_postgres(latest_server) > before


def test_postgres_stays_where_others_were_written_and_it_was_read(latest_server: Server) -> None:
    before = number_of_postgres(latest_server)
    admin = latest_server.create_delegated_admin()
    latest_server.run_as_superuser("CREATE DATABASE of_a_test")
    session = latest_server.connect(*admin)
    session.run("SELECT count(*) FROM pg_class, pg_depend; CREATE ROLE left_over; COMMENT ON ROLE left_over IS 'so'")
    latest_server.reset()
    assert number_of_postgres(latest_server) == before
    with pytest.raises((pg8000.native.InterfaceError, pg8000.native.DatabaseError, OSError)):
        session.run("SELECT 1")
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    assert latest_server.run_as_superuser(sessions) == [[1]]


def number_of_postgres(server: Server) -> int:
    [[number]] = server.run_as_superuser("SELECT oid::int FROM pg_database WHERE datname = 'postgres'")
    return int(number)


def test_the_log_tells_who_ran_which_statement_where(pg_server: Server) -> None:
    mark = pg_server.mark()
    with contextlib.closing(pg_server.connect(*pg_server.master)) as master:
        master.run("SELECT 'one',\n  2")
        master.run("SELECT :number::int", number=3)
    pg_server.run_as_superuser("SELECT 'not ours'")

    assert pg_server.log_statements(mark) == [
        ("platform_admin", "postgres", "SELECT 'one',\n  2"),
        ("platform_admin", "postgres", "SELECT $1::int"),
    ]
    assert pg_server.log_statements(mark, user="somebody_else") == []


def test_no_password_of_the_stack_is_in_the_log(latest_server: Server) -> None:
    latest_server.connect(*latest_server.master).close()
    assert latest_server.master.password not in latest_server.log_text()


def test_a_standby_is_in_recovery_and_knows_the_primarys_roles(latest_server: Server) -> None:
    with (
        latest_server.create_standby() as standby,
        contextlib.closing(standby.connect(*standby.master)) as connection,
    ):
        assert connection.run("SELECT pg_is_in_recovery()") == [[True]]
    latest_server.connect(*latest_server.master).close()


def test_a_crash_and_a_start_keep_the_port(latest_server: Server) -> None:
    port = latest_server.port
    latest_server.stop("immediate")
    with pytest.raises(ConnectionRefusedError):
        latest_server.connect(*latest_server.master)
    latest_server.start()
    assert latest_server.port == port
    latest_server.connect(*latest_server.master).close()


@pytest.mark.parametrize("what", ["another host", "expired", "another authority"])
def test_a_wrong_certificate_is_noticed(what: str) -> None:
    certificate = {
        "another host": lambda: session_authority().issue("db.example.org"),
        "expired": lambda: session_authority().issue(expired=True),
        "another authority": lambda: Authority().issue(),
    }[what]()
    with Server(LATEST, certificate=certificate) as server:
        context = ssl.create_default_context(cafile=str(session_authority().ca_file))
        with pytest.raises((ssl.SSLError, pg8000.native.InterfaceError)):
            pg8000.native.Connection("platform_admin", host="localhost", port=server.port, ssl_context=context)


def test_parameters_and_a_server_without_tls_can_be_had() -> None:
    with (
        Server(LATEST, tls=False, parameters={"max_connections": "7"}) as server,
        contextlib.closing(server.connect(*server.master)) as master,
    ):
        assert master.run("SHOW max_connections") == [["7"]]
        assert master.run("SHOW ssl") == [["off"]]


def test_a_server_leaves_neither_process_nor_folder_behind() -> None:
    with Server(LATEST) as server:
        folder = server._folder
        pid = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_either_administrator_can_create_roles_and_databases(pg_server: Server, admin: Login) -> None:
    with contextlib.closing(pg_server.connect(*admin)) as connection:
        assert connection.run(
            "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        ) == [[False, True, True]]
    assert admin.password not in pg_server.log_text()
