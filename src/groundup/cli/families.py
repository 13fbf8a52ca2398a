"""`groundup families`."""

from groundup.cli.answers import HtmlOption, JsonOption, give


def families(html: HtmlOption = None, as_json: JsonOption = False) -> int:
    """List the families of models: what they learn from, see and are good for, and what was measured."""
    from groundup.pipeline.families.overview import families_answer

    return give(families_answer(), as_json=as_json, explain=None, html=html)
