"""What the Hub refuses in a README.md."""

import re

_LICENSES = {
    "mit", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-2.0", "cc-by-2.5",
    "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0",
    "unknown", "other",
}  # fmt: skip


def card_errors(content: str, kind: str) -> list[str]:
    """Say what the Hub would refuse in a README.md."""
    import yaml

    block = re.match(r"\s*---\s*\n(?P<yaml>.*?\n)---[ \t]*(?:\n|$)", content, re.DOTALL)
    if not block:
        return []
    try:
        card = yaml.safe_load(block["yaml"])
    except yaml.YAMLError as error:
        return [f"Invalid metadata in README.md: {error}"]
    if not isinstance(card, dict):
        return ["Invalid metadata in README.md: not a mapping"]
    wrong = [*_license_errors(card), *_index_errors(card.get("model-index", []))]
    for key in ("tags", "task_categories", "size_categories", "datasets", "metrics"):
        values = card.get(key, [])
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            wrong.append(f'"{key}" must be a string or an array of strings')
    for config in card.get("configs", []):
        if not isinstance(config, dict) or "config_name" not in config:
            wrong.append('"configs" must name each config')
    return wrong


def _license_errors(card: dict) -> list[str]:
    license = card.get("license")
    if license is None:
        return []
    if license not in _LICENSES:
        return [f'"license" must be one of the known ids, not {license!r}']
    wrong = []
    if "license_name" in card and not re.fullmatch(r"[a-z0-9-.]+", str(card["license_name"])):
        wrong.append('"license_name" must be lowercase letters, digits, - and .')
    link = str(card.get("license_link", "LICENSE"))
    if not re.fullmatch(r"LICENSE(?:\.md|\.txt)?|https?://\S+", link):
        wrong.append('"license_link" must be a URL or LICENSE')
    return wrong


def _index_errors(index: object) -> list[str]:
    try:
        for model in index:
            assert isinstance(model["name"], str)
            for result in model["results"]:
                assert isinstance(result["task"]["type"], str)
                assert isinstance(result["dataset"]["type"], str)
                assert isinstance(result["dataset"]["name"], str)
                for metric in result["metrics"]:
                    assert isinstance(metric["type"], str)
                    assert "value" in metric
    except (AssertionError, KeyError, TypeError) as error:
        return [f'"model-index" is not of its form: {type(error).__name__} {error}']
    return []
