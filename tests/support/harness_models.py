"""Models of lm-eval for tests: their answers are known ahead."""

from lm_eval.api.model import LM

from orca_bench.evaluate.harness.lm_eval_instances import ScoreResponse, TextResponse
from orca_bench.evaluate.protocols import Answer


class NumberedAnswers(LM):
    """A model that answers each instance with its number, whatever it says."""

    def loglikelihood(self, requests, disable_tqdm=True):
        return [ScoreResponse(Answer(-float(number), is_greedy=False)) for number in range(len(requests))]

    def generate_until(self, requests, disable_tqdm=True):
        return [TextResponse(Answer(f"#### {n}", hit_token_limit=n % 2 == 0)) for n in range(len(requests))]

    def loglikelihood_rolling(self, requests, disable_tqdm=True):
        raise NotImplementedError
