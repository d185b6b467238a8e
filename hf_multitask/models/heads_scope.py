"""Statistics of pooled states that tell texts out of scope from the training texts."""

import torch
from torch import nn

from .abstention import MAHALANOBIS, NEAREST
from .tasks import TaskConfig

# End of the key, after the name of a task, of the statistic among the logits. No task name has a dot.
SCOPE_END = ".scope"
# Number of training texts that neighbors are looked for among.
MAX_STORED = 5_000
# Share of the mean variance that is added to each direction, so that a few rows have a covariance with an inverse.
_SHRINKAGE = 1e-3


class Mahalanobis(nn.Module):
    """Distance to the nearest class mean under the covariance that the classes share (Lee et al. 2018, section 2.1).

    Args:
        task: Single-label task with its labels.
        hidden_size: Size of the states.
    """

    whitening: torch.Tensor
    means: torch.Tensor

    def __init__(self, task: TaskConfig, hidden_size: int) -> None:
        super().__init__()
        # The covariance is the unit matrix in the whitened space, in which distances are Euclidean.
        self.register_buffer("whitening", torch.zeros(hidden_size, hidden_size))
        self.register_buffer("means", torch.zeros(task.num_labels, hidden_size))

    @torch.no_grad()
    def fit(self, states: torch.Tensor, labels: torch.Tensor) -> None:
        """Fit the means and the covariance.

        Args:
            states: Pooled states of training texts (rows, hidden).
            labels: Their labels (rows,). A label without a row has no mean.
        """
        states, labels = states.double().cpu(), labels.cpu()
        present = labels.unique()
        means = torch.stack([states[labels == label].mean(0) for label in present])
        centered = states - means[torch.searchsorted(present, labels)]
        covariance = centered.T @ centered / len(states)
        covariance += torch.eye(len(covariance)) * (_SHRINKAGE * covariance.diagonal().mean()).clamp(min=1e-12)
        whitening = torch.linalg.cholesky(torch.linalg.inv(covariance))
        # A label without a row gets the mean of another, so that it is never the nearest alone.
        chosen = torch.searchsorted(present, torch.arange(len(self.means))).clamp(max=len(present) - 1)
        self.whitening.copy_(whitening)
        self.means.copy_((means @ whitening)[chosen])

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the negative squared distance of texts (batch,), greater for texts in scope.

        Args:
            states: Pooled states (batch, hidden).
        """
        whitened, means = states.float() @ self.whitening.float(), self.means.float()
        products = whitened @ means.T
        return (2 * products - means.square().sum(-1)).amax(-1) - whitened.square().sum(-1)


class NearestNeighbors(nn.Module):
    """Distance to the k-th nearest training text, of normalized states (Sun et al. 2022, section 3).

    Args:
        task: Single-label task that abstains.
        hidden_size: Size of the states.
    """

    index: torch.Tensor

    def __init__(self, task: TaskConfig, hidden_size: int) -> None:
        super().__init__()
        stored = 0 if task.abstention is None else task.abstention.stored
        self.neighbors = 1 if task.abstention is None else task.abstention.neighbors
        self.register_buffer("index", torch.zeros(stored, hidden_size))

    @torch.no_grad()
    def fit(self, states: torch.Tensor, labels: torch.Tensor) -> None:
        """Store training texts, at most `MAX_STORED` of them at equal distances.

        Args:
            states: Pooled states of training texts (rows, hidden).
            labels: Their labels (rows,), by which they are sorted first.
        """
        ordered = states[labels.argsort(stable=True).to(states.device)]
        chosen = torch.linspace(0, len(ordered) - 1, min(len(ordered), MAX_STORED)).long().unique()
        normalized = nn.functional.normalize(ordered[chosen.to(states.device)].float(), dim=-1)
        self.index = normalized.to(self.index.device, self.index.dtype)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return the negative distance of texts (batch,), greater for texts in scope.

        Args:
            states: Pooled states (batch, hidden).
        """
        if not len(self.index):
            return states.new_zeros(len(states), dtype=torch.float)
        similarities = nn.functional.normalize(states.float(), dim=-1) @ self.index.float().T
        nearest = similarities.topk(min(self.neighbors, len(self.index))).values[:, -1]
        return -(2 - 2 * nearest).clamp(min=0).sqrt()


ScopeStatistic = Mahalanobis | NearestNeighbors
STATISTICS: dict[str, type[ScopeStatistic]] = {MAHALANOBIS: Mahalanobis, NEAREST: NearestNeighbors}


def build_statistic(task: TaskConfig, hidden_size: int) -> ScopeStatistic | None:
    """Build the statistic of pooled states of a task; None if it abstains by its logits, or not at all.

    Args:
        task: Task with its labels.
        hidden_size: Size of the states.
    """
    if task.abstention is None or task.abstention.method not in STATISTICS:
        return None
    return STATISTICS[task.abstention.method](task, hidden_size)
