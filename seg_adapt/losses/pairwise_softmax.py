"""Softmax over all pairs of pixels without a matrix of all pairs: the matches of PLCA's cycle
association, and its spatial aggregation (§3.3).

Similarities are made block by block, reduced, and made again for the gradient: memory is linear in
the number of pixels. What is computed is exact.
"""

import functools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

MINIMUM_SIGMA = 1e-6


def blocks(count: int, size: int) -> Iterator[slice]:
    """`count` positions as consecutive slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def best_match(
    queries: Tensor, keys: Tensor, rows: Tensor, *, epsilon: float, block: int
) -> tuple[Tensor, Tensor]:
    """Each row's most similar key, and the log-probability of choosing it.

    D_ij = queries_i · keys_j; what would be added to a whole row changes nothing.

    Args:
        queries: (N, C).
        keys: (M, C).
        rows: (R,) distinct indices of the queries to match.
        epsilon: added to the standard deviation of Eq. 6.
        block: rows of D that exist at a time.

    Returns:
        log_probability: (R,), log softmax_j((D_ij − μ_i) / σ_i) at the match; Eqs. 4 to 6 with μ
            and σ constant in the gradient.
        index: (R,), argmax_j D_ij; Eqs. 2 and 3.
    """
    return _BestMatch.apply(queries, keys, rows, epsilon, block)


def aggregate_features(
    features: Tensor, *, alpha: float = 0.5, epsilon: float = 1e-10, block: int = 512
) -> Tensor:
    """Eqs. 7 and 8: each pixel mixed with all pixels of its image, itself included, by cosine
    similarity with contrast normalization.

    Args:
        features: (N, C), the pixels of one image.
        alpha: share of the mixture that is not the pixel itself, in (0, 1].
        epsilon, block: see `best_match`.
    """
    return _Attention.apply(features, alpha, epsilon, block)


def aggregate_probabilities(
    probabilities: Tensor, *, alpha: float = 0.5, epsilon: float = 1e-10
) -> Tensor:
    """Eqs. 7 and 8 by −KL(P_j ‖ P_j'), without contrast normalization as in the released code.

    −KL is Σ_c P_j(c) log P_j'(c) but for a constant of j, which the softmax drops: this is dot
    product attention with P as queries and values and log P as keys.

    Args:
        probabilities: (N, C), the pixels of one image.
        alpha: see `aggregate_features`.
        epsilon: added to the probabilities before the logarithm.
    """
    # Channels of zeros change no product, and CUDA's kernel of linear memory asks for multiples.
    values = F.pad(probabilities, (0, -probabilities.shape[1] % 8))[None, None]
    keys = F.pad((probabilities + epsilon).log(), (0, -probabilities.shape[1] % 8))[None, None]
    mixed = F.scaled_dot_product_attention(values, keys, values, scale=1.0)
    return (1 - alpha) * probabilities + alpha * mixed[0, 0, :, : probabilities.shape[1]]


def normalize(features: Tensor) -> Tensor:
    """Rows (N, C) at unit length; a zero row stays zero and gets no gradient."""
    return _Normalize.apply(features)


def _unit_rows(features: Tensor) -> tuple[Tensor, Tensor]:
    """Unit rows, contiguous however the features lie in memory, and 1 / norm (N, 1) or 0."""
    norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    inverse_norm = torch.where(norm > 1e-12, norm.reciprocal(), 0.0)
    return torch.mul(features, inverse_norm, out=features.new_empty(features.shape)), inverse_norm


def _inverse_sigma(centered: Tensor, epsilon: float) -> Tensor:
    """Eq. 6 of rows (R, M) with mean 0; a row without contrast is not blown up."""
    sigma = torch.linalg.vector_norm(centered, dim=1, keepdim=True)
    sigma = sigma / max(centered.shape[1] - 1, 1) ** 0.5 + epsilon
    return sigma.clamp(min=MINIMUM_SIGMA).reciprocal()


def _full_precision(function: Callable) -> Callable:
    """Without autocast: a trainer may call `backward` under it."""

    @functools.wraps(function)
    def inner(ctx, tensor: Tensor, *rest):
        with torch.autocast(tensor.device.type, enabled=False):
            return function(ctx, tensor, *rest)

    return inner


class _Normalize(torch.autograd.Function):
    @staticmethod
    @_full_precision
    def forward(ctx, features: Tensor) -> Tensor:
        unit, inverse_norm = _unit_rows(features)
        ctx.save_for_backward(unit, inverse_norm)
        return unit

    @staticmethod
    @once_differentiable
    @_full_precision
    def backward(ctx, grad: Tensor) -> Tensor:
        unit, inverse_norm = ctx.saved_tensors
        radial = torch.einsum("nc,nc->n", grad, unit)[:, None]
        return torch.addcmul(grad, unit, radial, value=-1).mul_(inverse_norm)


class _BestMatch(torch.autograd.Function):
    """Keeps of each row σ and the logarithm of its softmax's denominator (`shift`)."""

    @staticmethod
    @_full_precision
    def forward(ctx, queries, keys, rows, epsilon, block):
        count, center = len(rows), keys.mean(0)
        index = rows.new_empty(count)
        log_p, inverse_sigma, shift = (queries.new_empty(count, 1) for _ in range(3))
        buffer = queries.new_empty(min(block, count), len(keys))
        for part in blocks(count, block):
            query = queries[rows[part]]
            mean = (query @ center)[:, None]
            similarity = torch.mm(query, keys.t(), out=buffer[: len(query)]).sub_(mean)
            inverse_sigma[part] = _inverse_sigma(similarity, epsilon)
            best, best_index = similarity.mul_(inverse_sigma[part]).max(1, keepdim=True)
            torch.softmax(similarity, 1, out=similarity)
            # The largest of M probabilities is at least 1/M: its logarithm is safe.
            log_p[part] = similarity.gather(1, best_index).log()
            shift[part] = best - log_p[part] + mean * inverse_sigma[part]
            index[part] = best_index[:, 0]
        ctx.save_for_backward(queries, keys, rows, index, inverse_sigma, shift)
        ctx.block = block
        ctx.mark_non_differentiable(index)
        return log_p[:, 0], index

    @staticmethod
    @once_differentiable
    @_full_precision
    def backward(ctx, grad, _):
        queries, keys, rows, index, inverse_sigma, shift = ctx.saved_tensors
        grad_queries, grad_keys = torch.zeros_like(queries), torch.zeros_like(keys)
        active = grad.nonzero()[:, 0]
        buffer = queries.new_empty(min(ctx.block, len(active)), len(keys))
        for part in blocks(len(active), ctx.block):
            chosen = active[part]
            query = queries[rows[chosen]] * inverse_sigma[chosen]
            slope = torch.mm(query, keys.t(), out=buffer[: len(query)])
            slope.sub_(shift[chosen]).exp_()
            slope[torch.arange(len(chosen), device=slope.device), index[chosen]] -= 1
            weight = -grad[chosen, None]
            grad_keys.addmm_(slope.t(), query * weight)
            grad_queries[rows[chosen]] = (slope @ keys).mul_(weight * inverse_sigma[chosen])
        return grad_queries, grad_keys, None, None, None


class _Attention(torch.autograd.Function):
    """With t_i = x_i / |x_i|, S = t tᵀ, w = softmax(S / σ): (1 − α) x_i + α Σ_j w_ij x_j."""

    @staticmethod
    @_full_precision
    def forward(ctx, features, alpha, epsilon, block):
        count = len(features)
        unit, inverse_norm = _unit_rows(features)
        norm, center = torch.linalg.vector_norm(features, dim=1), unit.mean(0)
        mixed = torch.empty_like(unit)
        inverse_sigma, shift = (features.new_empty(count, 1) for _ in range(2))
        buffer = features.new_empty(min(block, count), count)
        for rows in blocks(count, block):
            mean = (unit[rows] @ center)[:, None]
            weights = torch.mm(unit[rows], unit.t(), out=buffer[: len(mean)]).sub_(mean)
            inverse_sigma[rows] = _inverse_sigma(weights, epsilon)
            best, best_index = weights.mul_(inverse_sigma[rows]).max(1, keepdim=True)
            torch.softmax(weights, 1, out=weights)
            log_best = weights.gather(1, best_index).log()
            shift[rows] = best - log_best + mean * inverse_sigma[rows]
            torch.mm(weights.mul_(norm), unit, out=mixed[rows])
        mixed.mul_(alpha).add_(features, alpha=1 - alpha)
        ctx.save_for_backward(unit, norm, inverse_norm, mixed, inverse_sigma, shift)
        ctx.alpha, ctx.block = alpha, block
        return mixed

    @staticmethod
    @once_differentiable
    @_full_precision
    def backward(ctx, grad):
        """S is symmetric: rows I with the columns J ≤ I give ∂/∂S_ij and ∂/∂S_ji at once."""
        unit, norm, inverse_norm, mixed, inverse_sigma, shift = ctx.saved_tensors
        grad, alpha, count = grad.contiguous(), ctx.alpha, len(unit)
        # δ_i = Σ_j w_ij ∂L/∂w_ij = g_i · Σ_j w_ij x_j
        delta = torch.einsum("nc,nc->n", grad, mixed)
        delta -= (1 - alpha) * norm * torch.einsum("nc,nc->n", grad, unit)
        delta = (delta / alpha)[:, None]
        total, radial = torch.zeros_like(unit), torch.zeros_like(norm)
        buffers = unit.new_empty(4, min(ctx.block, count), count)
        for i in blocks(count, ctx.block):
            j = slice(0, i.stop)
            similarity, weights, slope, slope_back = buffers[:, : i.stop - i.start, j]
            torch.mm(unit[i], unit[j].t(), out=similarity)
            # w_ij
            torch.mul(similarity, inverse_sigma[i], out=weights).sub_(shift[i]).exp_()
            total[j].addmm_(weights.t(), grad[i])
            torch.mm(grad[i], unit[j].t(), out=slope)
            slope.mul_(norm[j]).sub_(delta[i]).mul_(weights).mul_(inverse_sigma[i])
            # w_ji
            torch.mul(similarity, inverse_sigma[j].t(), out=weights).sub_(shift[j].t()).exp_()
            weights[:, i] = 0  # done above, both orders
            total[i].addmm_(weights, grad[j])
            torch.mm(unit[i], grad[j].t(), out=slope_back)
            slope_back.mul_(norm[i, None]).sub_(delta[j].t()).mul_(weights)
            slope.add_(slope_back.mul_(inverse_sigma[j].t()))

            similarity.mul_(slope)
            radial[i] += similarity.sum(1)
            radial[j] += similarity.sum(0)
            total[i] += (slope @ unit[j]).mul_(inverse_norm[i])
            total[j].addmm_(slope.mul_(inverse_norm[j].t()).t(), unit[i])
        total.addcmul_(unit, radial[:, None] * inverse_norm, value=-1)
        return total.mul_(alpha).add_(grad, alpha=1 - alpha), None, None, None
