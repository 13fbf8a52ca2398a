"""How near translations are to those of people: BLEU and chrF, as sacrebleu computes them."""

import re
from collections.abc import Sequence

from groundup.errors import UserError

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


def score(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float | str]:
    """`bleu` and `chrf` of the whole, 0..100, with the signatures that make them comparable (arXiv:1804.08771).

    BLEU: Papineni et al. 2002; chrF: Popović 2015. Chinese is cut into characters for BLEU, anything else into
    words as in sacrebleu's `13a`. UserError if sacrebleu is not installed or nothing is given.
    """
    if not references:
        raise UserError("there are no translations to compare; give a file of pairs that is not empty")
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise UserError("BLEU and chrF need the package sacrebleu; pip install 'groundup[translation]'") from None
    chinese = sum(bool(_HAN.search(text)) for text in references) * 2 > len(references)
    bleu, chrf = BLEU(tokenize="zh" if chinese else "13a"), CHRF()
    return {
        "bleu": bleu.corpus_score(hypotheses, [references]).score,
        "chrf": chrf.corpus_score(hypotheses, [references]).score,
        "bleu_signature": str(bleu.get_signature()),
        "chrf_signature": str(chrf.get_signature()),
    }
