"""The name of a result's file says what an option changed."""

from orca_bench.evaluate.result_names import result_stem
from orca_bench.question_limit import QuestionLimit
from orca_bench.system_messages import SYSTEM_MESSAGES


def test_the_file_is_named_after_what_an_option_changed():
    assert result_stem("orca", QuestionLimit(), SYSTEM_MESSAGES[5], {}) == "orca"
    assert result_stem("orca", QuestionLimit(30), SYSTEM_MESSAGES[7], {}) == "orca-system7-limit30"
    assert result_stem("orca", QuestionLimit(), "", {}) == "orca-system1"
    assert result_stem("leaderboard", QuestionLimit(30), SYSTEM_MESSAGES[7], {}) == "leaderboard-limit30"
    assert result_stem("orca", QuestionLimit(), SYSTEM_MESSAGES[5], {"gsm8k": 512, "drop": 64}) == "orca-drop-room64"
    assert result_stem("plain", QuestionLimit(30), "", {"gsm8k": 512}) == "plain-gsm8k-room512-limit30"
    named = {result_stem("orca", QuestionLimit(), text, {}) for text in ("Be brief.", "Be long.", "a/b\ud800")}
    assert len(named) == 3 and all(name.startswith("orca-system-") and "/" not in name for name in named)
