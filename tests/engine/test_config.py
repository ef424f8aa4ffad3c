"""Precedence, origins and the one-line errors of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from kaelum_graph.config import Loaded, Settings, expectation, load_settings, with_overrides
from kaelum_graph.errors import ConfigError


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the user's settings or the ones in the working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def load(
    file: Path | None = None, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> Loaded:
    return load_settings(flags=flags or {}, environ=environ or {}, file=file)


def error_of(
    file: Path | None = None, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, environ, flags)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_without_any_source() -> None:
    loaded = load()
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.file is None


def test_flags_beat_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(tmp_path / "s.toml", "# mine\nsims = 1\ndepth = 1\ntop_p = 0.5\n")
    loaded = load(file, {"KAELUM_SIMS": "2", "KAELUM_DEPTH": "2", "PATH": "/bin"}, {"sims": "3", "model": None})
    assert (loaded.settings.sims, loaded.settings.depth, loaded.settings.top_p) == (3, 2, 0.5)
    assert loaded.settings.temperature == 0.7
    assert loaded.origins["sims"] == "flag --sims"
    assert loaded.origins["depth"] == "environment KAELUM_DEPTH"
    assert loaded.origins["top_p"] == f"file {file} line 4"
    assert loaded.origins["model"] == "default"
    assert set(loaded.origins) == set(Settings.model_fields)


def test_text_becomes_the_fields_own_type() -> None:
    environ = {"KAELUM_ROUTING": "off", "KAELUM_SIMS": "7", "KAELUM_CACHE_DIR": "~/c", "KAELUM_API_KEY": "s3cret"}
    settings = load(environ=environ, flags={"temperature": "1", "cache": False}).settings
    assert settings.routing is False
    assert settings.cache is False
    assert settings.sims == 7
    assert settings.temperature == 1.0
    assert settings.cache_dir == Path.home() / "c"
    assert isinstance(settings.api_key, SecretStr)
    assert "s3cret" not in repr(settings)


def test_a_false_flag_is_named_with_no() -> None:
    assert load(flags={"routing": False}).origins["routing"] == "flag --no-routing"
    assert load(flags={"cache_similarity": "0.5"}).origins["cache_similarity"] == "flag --cache-similarity"


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    file = write(tmp_path / "s.toml", "sims = 4")
    loaded = load(file, {"KAELUM_SIMS": "", "KAELUM_CONFIG": ""})
    assert loaded.settings.sims == 4


BAD_TEXT = {
    "model": "",
    "base_url": "localhost:8000",
    "api_key": "",
    "temperature": "2.5",
    "top_p": "0",
    "max_tokens": "0",
    "sims": "257",
    "depth": "1.5",
    "effort": "extreme",
    "token_budget": "-1",
    "deadline": "inf",
    "prm_threshold": "nan",
    "min_confidence": "80%",
    "answers": "17",
    "routing": "perhaps",
    "worker": "",
    "cache": "2",
    "structures": "2",
    "learning": "perhaps",
    "cache_similarity": "1.01",
    "max_reflections": "9",
    "judge": "sometimes",
    "early_stop": "perhaps",
    "first_wave": "1",
    "wave_size": "129",
    "slots": "0",
    "seed": "0x1",
    "device": "gpu",
    "engine": "fast",
    "offload": "gpu",
    "trust_sources": "maybe",
    "retriever_timeout": "0",
    "hub": "on",
}


@pytest.mark.parametrize("key", BAD_TEXT)
def test_a_bad_value_names_key_value_origin_and_expectation(key: str) -> None:
    message = error_of(flags={key: BAD_TEXT[key]})
    shown = "***" if key == "api_key" else repr(BAD_TEXT[key])
    flag = f"flag --{key.replace('_', '-')}"
    assert message == f"{key} has value {shown} ({flag}): expected {expectation(key)}."


def test_every_field_has_a_description_and_an_expectation() -> None:
    assert set(BAD_TEXT) | {"cache_dir", "data_dir", "documents"} == set(Settings.model_fields)
    for key, field in Settings.model_fields.items():
        assert field.description, key
        assert expectation(key)
    assert expectation("sims") == "a whole number from 1 to 256"
    assert expectation("seed") == "a whole number of 0 or more"
    assert expectation("deadline") == "a number above 0"
    assert expectation("top_p") == "a number above 0 and up to 1"
    assert expectation("hub") == "one of auto, off"


@pytest.mark.parametrize(
    "line",
    ['sims = "8"', "sims = true", "routing = 1", 'routing = "off"', "model = 5", "sims = [1]", "hub = 2026-01-01"],
)
def test_a_file_must_use_the_right_toml_type(tmp_path: Path, line: str) -> None:
    file = write(tmp_path / "s.toml", f"\n{line}\n")
    assert f"(file {file} line 2): expected " in error_of(file)


def test_a_file_may_give_a_whole_number_for_a_number(tmp_path: Path) -> None:
    assert load(write(tmp_path / "s.toml", "temperature = 1")).settings.temperature == 1.0


def test_a_bad_secret_is_not_shown(tmp_path: Path) -> None:
    file = write(tmp_path / "s.toml", "api_key = 987654321")
    message = error_of(file)
    assert "987654321" not in message
    assert "api_key has value ***" in message


def test_long_values_are_cut() -> None:
    assert len(error_of(flags={"device": "x" * 1000})) < 250


def test_unknown_keys_name_the_nearest(tmp_path: Path) -> None:
    file = write(tmp_path / "s.toml", 'sims = 4\nbase-url = "http://x"\n')
    assert error_of(file) == f"{file} line 2: unknown setting 'base-url'; the nearest is 'base_url'."
    assert error_of(environ={"KAELUM_TEMPRATURE": "1"}) == (
        "environment KAELUM_TEMPRATURE: unknown setting; the nearest is KAELUM_TEMPERATURE."
    )
    assert "the nearest is 'sims'" in error_of(flags={"simz": 3})
    assert "unknown setting 'search'" in error_of(write(tmp_path / "t.toml", "[search]\nsims = 3\n"))


def test_kubernetes_service_links_are_no_settings() -> None:
    links = {
        "KAELUM_SERVICE_HOST": "10.0.0.1",
        "KAELUM_SERVICE_PORT": "80",
        "KAELUM_SERVICE_PORT_HTTP": "80",
        "KAELUM_PORT": "tcp://10.0.0.1:80",
        "KAELUM_PORT_80_TCP": "tcp://10.0.0.1:80",
        "KAELUM_PORT_80_TCP_ADDR": "10.0.0.1",
        "KAELUM_GRAPH_SERVICE_HOST": "10.0.0.1",
    }
    assert load(environ=links).settings == Settings()
    assert "KAELUM_PORT" in error_of(environ={"KAELUM_PORT": "80"})


def test_which_file_is_read(tmp_path: Path) -> None:
    user = write(tmp_path / "xdg" / "kaelum-graph" / "config.toml", "sims = 1")
    assert (load().settings.sims, load().file) == (1, user)
    project = write(Path("kaelum.toml"), "sims = 2").absolute()
    assert (load().settings.sims, load().file) == (2, project)
    named = write(tmp_path / "n.toml", "sims = 3")
    assert load(environ={"KAELUM_CONFIG": str(named)}).settings.sims == 3
    given = write(tmp_path / "g.toml", "sims = 4")
    assert load(given, {"KAELUM_CONFIG": str(named)}).settings.sims == 4


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert error_of(missing) == f"{missing}: cannot read the settings file: No such file or directory."
    assert str(missing) in error_of(environ={"KAELUM_CONFIG": str(missing)})
    assert "Is a directory" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"sims = 3\ndepth = \n", 2),
        (b"\n\nsims = 3 4\n", 3),
        (b"sims = 3\nsims = 4\n", 2),
        (b"# \n[table\n", 2),
        (b'model = """never\nclosed\n', 2),
        (b"sims = 3\nmodel = '\xff'\n", 2),
        (b"sims = " + b"[" * 20_000, 1),
    ],
)
def test_an_invalid_file_names_the_line(tmp_path: Path, raw: bytes, line: int) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(raw)
    assert error_of(file).startswith(f"{file} line {line}: not ")


def test_lines_are_right_whatever_surrounds_them(tmp_path: Path) -> None:
    file = write(
        tmp_path / "s.toml",
        '\ufeff# head\r\n\r\nmodel = """\r\nsims = 1\r\n[a]\r\n"""\r\n"sims" = 9 # nine\r\n\'depth\'=2\r\n\r\nseed = 1',
    )
    loaded = load(file)
    found = {key: int(origin.rsplit(" ", 1)[1]) for key, origin in loaded.origins.items() if origin != "default"}
    assert found == {"model": 3, "sims": 7, "depth": 8, "seed": 10}
    assert loaded.settings.model == "sims = 1\n[a]\n"


def test_lines_after_an_array_are_top_level_still(tmp_path: Path) -> None:
    file = write(tmp_path / "s.toml", "model = [\n  1,\n[2]]\nsims = 3\n")
    assert f"file {file} line 1" in error_of(file)


def test_a_strange_folders_file_does_not_get_the_users_key(tmp_path: Path) -> None:
    project = write(Path("kaelum.toml"), 'base_url = "http://elsewhere.example/v1"').absolute()
    message = error_of(environ={"KAELUM_API_KEY": "s3cret"})
    assert str(project) in message
    assert "s3cret" not in message
    assert load().settings.base_url == "http://elsewhere.example/v1"
    assert load(project, {"KAELUM_API_KEY": "s3cret"}).settings.api_key is not None
    assert load(environ={"KAELUM_API_KEY": "k", "KAELUM_BASE_URL": "http://mine"}).settings.base_url == "http://mine"


@pytest.mark.parametrize(
    ("line", "flags", "part"),
    [
        ('documents = "/"', {}, "to read documents outside it"),
        ('documents = "../own"', {}, "to read documents outside it"),
        ('base_url = "http://elsewhere"', {"documents": "notes"}, "to send them there"),
    ],
)
def test_a_strange_folders_file_neither_reads_nor_sends_the_users_documents(
    line: str, flags: dict[str, object], part: str
) -> None:
    project = write(Path("kaelum.toml"), line).absolute()
    assert part in error_of(flags=flags)
    assert load(project, flags=flags).settings.documents is not None
    write(project, 'documents = "notes"\nbase_url = "http://elsewhere"')
    assert load().settings.documents == Path("notes")


def test_settings_are_frozen_and_reject_unknown_keys() -> None:
    with pytest.raises(ValidationError):
        Settings().sims = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError):
        Settings.model_validate({"simz": 3})


def test_overrides_are_checked_and_leave_the_original_alone() -> None:
    settings = Settings(sims=4)
    assert with_overrides(settings, {"sims": None, "depth": 2}) == Settings(depth=2)
    assert settings.sims == 4
    for overrides, part in (
        ({"sims": "8"}, "sims has value '8' (argument): expected a whole number"),
        ({"sims": True}, "sims has value True"),
        ({"simz": 1}, "unknown setting 'simz'; the nearest is 'sims'"),
    ):
        with pytest.raises(ConfigError) as caught:
            with_overrides(settings, overrides)
        assert part in str(caught.value)


def test_the_documentation_lists_every_setting() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    for key, field in Settings.model_fields.items():
        [row] = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        assert row.startswith(f"| `{key}` | {expectation(key)} | ")
        assert row.endswith(f" | {field.description} |")
