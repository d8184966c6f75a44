from __future__ import annotations

import pytest

from provisioner.core.declaration import refuse_administrator_login
from provisioner.core.errors import Finding, InvalidSnapshot
from provisioner.core.model import Declaration, Entry
from provisioner.core.snapshot import parse_snapshot


def read(text: str) -> Declaration:
    return parse_snapshot(text.encode(), "terraform.tfvars", environment="dev")[0]


def refused(text: str) -> tuple[Finding, ...]:
    with pytest.raises(InvalidSnapshot) as caught:
        read(text)
    return caught.value.findings


def with_attributes(attributes: str) -> str:
    return f'application_databases = {{ a = {{ database_name = "d", username = "u", {attributes} }} }}'


def with_entries(*entries: str) -> str:
    lines = [f"  {key} = {{ {attributes} }}" for key, attributes in zip("abcdefg", entries, strict=False)]
    return "\n".join(["application_databases = {", *lines, "}", ""])


WRONG_ATTRIBUTES = {
    "unknown": ('acess_level = "reader"', "unknown_attribute"),
    "unknown and null": ("owner = null", "unknown_attribute"),
    "level as a number": ("access_level = 1", "wrong_type"),
    "level that does not exist": ('access_level = "admin"', "invalid_value"),
    "level in capitals": ('access_level = "Owner"', "invalid_value"),
    "createdb in quotes": ('createdb = "true"', "wrong_type"),
    "createdb for a reader": ('access_level = "reader", createdb = true', "invalid_value"),
    "createdb for an editor": ('access_level = "editor", createdb = true', "invalid_value"),
    "limit in quotes": ('connection_limit = "5"', "wrong_type"),
    "limit below zero": ("connection_limit = -1", "invalid_value"),
    "limit with a fraction": ("connection_limit = 1.5", "invalid_value"),
    "limit over 32 bits": ("connection_limit = 2147483648", "invalid_value"),
    "limit that fills the memory": ("connection_limit = 1e999999999", "invalid_value"),
    "extensions by a for": ('extensions = [for x in ["a"] : x]', "for_expression"),
    "name by a for": ('secret_name = { for x in ["a"] : x => x }', "for_expression"),
    "limit computed": ("connection_limit = 2 * 2", "computed_value"),
    "limit as a bool": ("connection_limit = true", "wrong_type"),
    "extensions in a string": ('extensions = "citext"', "wrong_type"),
    "extension as a number": ("extensions = [1]", "wrong_type"),
    "extension with a semicolon": ('extensions = ["a; drop"]', "invalid_name"),
    "extensions of a reader": ('access_level = "reader", extensions = ["citext"]', "invalid_value"),
    "secret empty": ('secret_name = ""', "invalid_value"),
    "secret with a blank": ('secret_name = "a b"', "invalid_value"),
    "secret too long": (f'secret_name = "{"a" * 513}"', "invalid_value"),
    "secret with a template": ('secret_name = "x/${"y"}"', "computed_value"),
    "secret as a heredoc": ("secret_name = <<E\nx\nE\n", "computed_value"),
    "attribute twice": ("createdb = true, createdb = true", "duplicate_key"),
    "attribute twice, once quoted": ('createdb = true, "createdb" = true', "duplicate_key"),
    "attribute with a computed name": ('"${"createdb"}" = true', "computed_key"),
}


@pytest.mark.parametrize(("attributes", "code"), WRONG_ATTRIBUTES.values(), ids=WRONG_ATTRIBUTES.keys())
def test_a_wrong_attribute_is_refused_with_the_names_of_its_entry(attributes: str, code: str) -> None:
    (finding,) = refused(with_attributes(attributes))
    # A key is refused before the entry's names are read.
    names = ("", "") if code in {"duplicate_key", "computed_key"} else ("d", "u")
    assert (finding.code, finding.database, finding.username) == (code, *names)


def test_an_unknown_attribute_is_answered_with_the_nearest_one() -> None:
    (finding,) = refused(with_attributes('usrname = "x"'))
    assert str(finding) == (
        'terraform.tfvars:1 application_databases.a.usrname: there is no attribute usrname; did you mean "username"?'
    )


def test_each_wrong_item_of_a_list_is_refused_with_its_line_and_number() -> None:
    lines = with_attributes('extensions = [\n"citext",\n"Bad",\n7, null]')
    assert [str(finding).partition(":")[2].partition(":")[0] for finding in refused(lines)] == [
        "3 application_databases.a.extensions[1]",
        "4 application_databases.a.extensions[2]",
        "4 application_databases.a.extensions[3]",
    ]


def test_null_means_the_default_as_in_terraform() -> None:
    nulls = "access_level = null, secret_name = null, createdb = null, connection_limit = null, extensions = null"
    assert read(with_attributes(nulls)).entries == (Entry("a", "d", "u"),)


def test_an_extension_that_is_listed_twice_is_one() -> None:
    assert read(with_attributes('extensions = ["citext", "citext"]')).entries[0].extensions == ("citext",)


@pytest.mark.parametrize("limit", [0, 2147483647])
def test_the_smallest_and_the_largest_connection_limit_are_read(limit: int) -> None:
    assert read(with_attributes(f"connection_limit = {limit}")).entries[0].connection_limit == limit


@pytest.mark.parametrize(
    "name", ["goldenpath/dev/a+b=c@d.e_f-g", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a/b-AbCdEf"]
)
def test_a_secret_may_be_named_or_given_as_an_arn(name: str) -> None:
    assert read(with_attributes(f'secret_name = "{name}"')).entries[0].secret_name == name


INVALID_NAMES = {
    "empty": ("", "invalid_name"),
    "upper case": ("Orders", "invalid_name"),
    "first a digit": ("1orders", "invalid_name"),
    "first an underscore": ("_orders", "invalid_name"),
    "blank": ("or ders", "invalid_name"),
    "quote": ('or\\"ders', "invalid_name"),
    "newline at the end": ("orders\\n", "invalid_name"),
    "not ascii": ("ördner", "invalid_name"),
    "64 bytes": ("o" * 64, "invalid_name"),
    "escaped template": ("$${orders}", "invalid_name"),
    "reserved postgres": ("postgres", "reserved_name"),
    "reserved template": ("template1", "reserved_name"),
    "reserved rdsadmin": ("rdsadmin", "reserved_name"),
    "reserved pg_": ("pg_orders", "reserved_name"),
    "reserved rds_": ("rds_iam", "reserved_name"),
    "reserved public": ("public", "reserved_name"),
    "reserved none": ("none", "reserved_name"),
    "reserved current_user": ("current_user", "reserved_name"),
    "reserved session_user": ("session_user", "reserved_name"),
    "reserved current_role": ("current_role", "reserved_name"),
    "reserved user": ("user", "reserved_name"),
}


@pytest.mark.parametrize("attribute", ["database_name", "username"])
@pytest.mark.parametrize(("name", "code"), INVALID_NAMES.values(), ids=INVALID_NAMES.keys())
def test_a_name_that_postgres_or_rds_would_not_take_is_refused(attribute: str, name: str, code: str) -> None:
    other = "username" if attribute == "database_name" else "database_name"
    (finding,) = refused(f'application_databases = {{ a = {{ {attribute} = "{name}", {other} = "fine" }} }}')
    assert (finding.code, finding.where) == (code, f"terraform.tfvars:1 application_databases.a.{attribute}")


def test_a_name_of_63_bytes_is_read() -> None:
    name = "o" * 63
    assert read(with_entries(f'database_name = "{name}", username = "u"')).entries[0].database == name


@pytest.mark.parametrize("value", ["1", "true", "null", '["d"]', "{}", '"${"d"}"', "<<E\nd\nE\n"])
def test_a_name_that_is_no_plain_string_is_refused(value: str) -> None:
    (finding,) = refused(f'application_databases = {{ a = {{ username = "u", database_name = {value} }} }}')
    assert finding.where == "terraform.tfvars:1 application_databases.a.database_name"


@pytest.mark.parametrize("key", ['"a b"', '""', '"a/b"', '"a.b"', f'"{"a" * 64}"'])
def test_a_key_that_cannot_stand_in_a_secret_is_refused(key: str) -> None:
    (finding,) = refused(f'application_databases = {{ {key} = {{ database_name = "d", username = "u" }} }}')
    assert finding.code == "invalid_name"


@pytest.mark.parametrize("value", ["null", "[]", '"keycloak"', "1", '"${1}"'])
def test_a_block_that_is_no_object_is_refused(value: str) -> None:
    (finding,) = refused(f"application_databases = {value}\n")
    assert finding.where == "terraform.tfvars:1 application_databases"


def test_an_entry_that_is_no_object_is_refused() -> None:
    (finding,) = refused('application_databases = { a = "keycloak" }')
    assert (finding.code, finding.message) == ("wrong_type", "a must be an object, not a string")


# --- entries together


def test_two_owners_of_a_database_are_all_named() -> None:
    text = with_entries(*(f'database_name = "d", username = "{user}"' for user in "xyz"))
    (finding,) = refused(text)
    assert (finding.code, finding.message) == (
        "two_owners",
        'database "d" has 3 owners: a (line 2), b (line 3), c (line 4)',
    )


def test_a_database_with_only_readers_is_read() -> None:
    text = with_entries('database_name = "d", username = "u", access_level = "reader"')
    assert len(read(text).entries) == 1


def test_one_username_with_two_secrets_is_refused() -> None:
    text = with_entries('database_name = "d", username = "u"', 'database_name = "e", username = "u"')
    (finding,) = refused(text)
    assert (finding.code, finding.username) == ("two_secrets", "u")


def test_one_username_with_one_secret_named_and_one_by_default_is_refused() -> None:
    text = with_entries('database_name = "d", username = "u", secret_name = "s"', 'database_name = "e", username = "u"')
    assert [finding.code for finding in refused(text)] == ["two_secrets"]


def test_one_username_with_a_secret_by_default_and_the_same_named_is_read() -> None:
    entries = 'database_name = "d", username = "u"', 'database_name = "e", username = "u", secret_name = "of/a/x"'
    text = with_entries(*entries).encode()
    declaration, _ = parse_snapshot(text, "terraform.tfvars", environment="dev", template="of/{app}/x")
    assert [entry.secret_id("of/{app}/x") for entry in declaration.entries] == ["of/a/x"] * 2


ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:of/a/x"


def with_secrets(one: str, other: str) -> str:
    entries = f'database_name = "d", secret_name = "{one}"', f'database_name = "e", secret_name = "{other}"'
    return with_entries(*(f'{each}, username = "u"' for each in entries))


@pytest.mark.parametrize(
    ("one", "other"),
    [("of/a/x", f"{ARN}-AbCdEf"), ("of/a/x", ARN), (ARN, f"{ARN}-AbCdEf"), (f"{ARN}-AbCdEf", f"{ARN}-GhIjKl")],
)
def test_one_username_with_ids_that_may_be_of_one_secret_is_read(one: str, other: str) -> None:
    """Which secret each names is known once they are read."""
    assert [entry.secret_name for entry in read(with_secrets(one, other)).entries] == [one, other]


@pytest.mark.parametrize("other", ["of/a/y", f"{ARN}y-AbCdEf", f"{ARN}-AbCdEf-GhIjKl", "of/a/x-AbCdEf"])
def test_one_username_with_ids_that_cannot_be_of_one_secret_is_refused(other: str) -> None:
    assert [finding.code for finding in refused(with_secrets("of/a/x", other))] == ["two_secrets"]


def test_one_username_in_two_databases_with_the_same_secret_is_read() -> None:
    same = 'username = "u", secret_name = "s"'
    text = with_entries(f'database_name = "d", {same}', f'database_name = "e", {same}')
    assert [entry.database for entry in read(text).entries] == ["d", "e"]


def test_one_username_twice_in_one_database_is_refused_even_with_the_same_secret() -> None:
    same = 'database_name = "d", username = "u", secret_name = "s"'
    text = with_entries(same, f'{same}, access_level = "reader"')
    assert [finding.code for finding in refused(text)] == ["duplicate_role"]


@pytest.mark.parametrize("attribute", ["createdb = true", "connection_limit = 5"])
def test_one_username_with_two_sets_of_attributes_is_refused(attribute: str) -> None:
    same = 'username = "u", secret_name = "s"'
    text = with_entries(f'database_name = "d", {same}, {attribute}', f'database_name = "e", {same}')
    assert [finding.code for finding in refused(text)] == ["role_differs"]


@pytest.mark.parametrize("level", ["editor", "reader"])
def test_an_owner_that_may_create_databases_may_be_less_than_an_owner_in_another(level: str) -> None:
    same = 'username = "u", secret_name = "s"'
    text = with_entries(
        f'database_name = "d", {same}, createdb = true', f'database_name = "e", {same}, access_level = "{level}"'
    )
    assert [entry.createdb for entry in read(text).entries] == [True, False]


def test_a_key_twice_is_refused_with_both_lines() -> None:
    text = 'application_databases = {\n  a = {}\n  "a" = {}\n}\n'
    messages = [finding.message for finding in refused(text) if finding.code == "duplicate_key"]
    assert messages == ["the key a stands on lines 2 and 3; the last would silently win"]


# --- the block and its place


ENTRY = '{ a = { database_name = "d", username = "u" } }'


@pytest.mark.parametrize("enabled", ["", "enabled = true,", 'enabled = "true",', "enabled = null,"])
def test_a_coupled_block_is_active_unless_disabled(enabled: str) -> None:
    declaration = read(f"rds_config = {{ {enabled} application_databases = {ENTRY} }}")
    assert (declaration.path, len(declaration.entries)) == ("rds_config.application_databases", 1)


@pytest.mark.parametrize("enabled", ["false", '"false"'])
def test_a_disabled_coupled_block_is_inactive(enabled: str) -> None:
    assert read(f"rds_config = {{ enabled = {enabled}, application_databases = {ENTRY} }}").entries == ()


@pytest.mark.parametrize("enabled", ["1", '"no"', '"True"', "[]", "!true"])
def test_enabled_that_is_no_bool_is_refused(enabled: str) -> None:
    (finding,) = refused(f"rds_config = {{ enabled = {enabled}, application_databases = {ENTRY} }}")
    assert finding.where == "terraform.tfvars:1 rds_config.enabled"


def test_both_blocks_active_are_refused() -> None:
    text = f"application_databases = {ENTRY}\nrds_config = {{ application_databases = {ENTRY} }}\n"
    (finding,) = refused(text)
    assert (finding.code, finding.message) == (
        "declared_twice",
        "application_databases stands here and on line 2 under rds_config, and both are active",
    )


def test_a_standalone_block_beside_a_disabled_coupled_one_is_read_with_a_warning() -> None:
    text = f"application_databases = {ENTRY}\nrds_config = {{ enabled = false, application_databases = {ENTRY} }}\n"
    declaration, warnings = parse_snapshot(text.encode(), "x.tfvars", environment="dev")
    assert (declaration.path, len(declaration.entries)) == ("application_databases", 1)
    assert [warning.code for warning in warnings] == ["inactive"]


def test_a_standalone_block_beside_an_rds_config_that_is_null_is_read() -> None:
    text = f"application_databases = {ENTRY}\nrds_config = null\n"
    assert parse_snapshot(text.encode(), "x.tfvars", environment="dev")[1] == ()


@pytest.mark.parametrize("text", ["v = 1\n", "# nothing\n", "rds_config = { enabled = true }\n", "rds_config = {}\n"])
def test_no_block_at_all_is_refused(text: str) -> None:
    assert [finding.code for finding in refused(text)] == ["nothing_declared"]


@pytest.mark.parametrize("value", ["null", "[]", '"x"'])
def test_rds_config_that_is_no_object_is_refused(value: str) -> None:
    assert [finding.code for finding in refused(f"rds_config = {value}\n")] == ["wrong_type"]


def test_no_environment_in_the_file_is_fine() -> None:
    assert read("application_databases = {}").entries == ()


def test_another_environment_is_refused_with_both_names() -> None:
    (finding,) = refused('environment = "prod"\napplication_databases = {}\n')
    assert finding.message == 'the file is for environment "prod", this function serves "dev"'


@pytest.mark.parametrize("value", ["null", "1", '["dev"]', '"${"dev"}"'])
def test_an_environment_that_is_no_string_is_refused(value: str) -> None:
    (finding,) = refused(f"environment = {value}\napplication_databases = {{}}\n")
    assert finding.where == "terraform.tfvars:1 environment"


def test_the_login_of_the_administrator_is_no_application_role() -> None:
    declaration = Declaration(entries=(Entry("a", "d", "admin"),))
    refuse_administrator_login(declaration, "other")
    with pytest.raises(InvalidSnapshot) as caught:
        refuse_administrator_login(declaration, "admin")
    (finding,) = caught.value.findings
    assert (finding.code, finding.username) == ("reserved_name", "admin")


@pytest.mark.parametrize(
    "text",
    [
        'environment = "{secret}"\napplication_databases = {{}}',
        'application_databases = "{secret}"',
        'application_databases = {{ "{secret}" = 1 }}',
        'application_databases = {{ a = "{secret}" }}',
        'application_databases = {{ a = {{ database_name = "{secret}", username = "{secret}" }} }}',
        'application_databases = {{ a = {{ "{secret}" = "{secret}" }} }}',
        'application_databases = {{ a = {{ access_level = "{secret}", secret_name = "{secret} " }} }}',
        'application_databases = {{ a = {{ extensions = ["{secret}"] }} }}',
        'rds_config = {{ enabled = "{secret}" }}',
        'password = "{secret}" "',
        "password = {secret}",
        'password = {{ "{secret}" = x }}',
        'password = f("{secret}")',
        'v = "{secret}" v = 1',
    ],
)
def test_no_value_that_could_be_a_secret_is_echoed(text: str) -> None:
    with pytest.raises(InvalidSnapshot) as caught:
        read(text.format(secret="tr0ub4dor&3"))
    assert "tr0ub4dor" not in str(caught.value)
    assert "tr0ub4dor" not in repr((caught.value.findings, caught.value.__context__, caught.value.__cause__))
