"""The Hugging Face hub: the local cache first, then one quick look whether the hub answers, then the download."""

import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lens_utils.checkpoints.errors import CheckpointError, HubError
from lens_utils.checkpoints.files import find_weight_files
from lens_utils.checkpoints.tokenizer import TOKENIZER_FILES, has_tokenizer

_TRUE = {"1", "ON", "YES", "TRUE"}
_TIMEOUT = 2.0


@dataclass(frozen=True)
class Snapshot:
    """Files of a hub repository in the local cache, and the commit they belong to."""

    folder: Path
    commit: str


class Hub:
    """One use of the hub; whether it answers is asked at most once."""

    def __init__(self, endpoint: str | None = None, *, timeout: float = _TIMEOUT) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self.timeout = timeout

    @cached_property
    def reachable(self) -> bool:
        """Whether the hub answers within the timeout; HF_HUB_OFFLINE=1 means no, without asking."""
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
            return False
        answers: list[bool] = []
        # A thread, because the timeout of a request does not cover looking up the host's name.
        thread = threading.Thread(target=lambda: answers.append(self._answers()), daemon=True)
        thread.start()
        thread.join(self.timeout)
        return bool(answers and answers[0])

    def _answers(self) -> bool:
        request = urllib.request.Request(self.endpoint, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        except (OSError, ValueError):
            return False

    def model(self, repo: str, revision: str, *, config: bool, tokenizer: bool, advice: str) -> Snapshot:
        """Configuration, weights (safetensors before PyTorch files) and tokenizer of a repository.

        A complete snapshot in the cache is used as it is; `config` and `tokenizer` say what makes it complete beside
        the weights. Raises `HubError`, at once if the hub does not answer; `advice` ends that message.
        """
        cached = self._cached(repo, revision)
        usable = cached is not None and _is_usable(cached.folder, config=config)
        if cached is not None and usable and (has_tokenizer(cached.folder) or not tokenizer):
            return cached
        if self.reachable:
            return self._download(repo, revision, choose_files(self._list_files(repo, revision), repo))
        if cached is not None and usable:
            return cached
        raise HubError(f"{repo} is not in the local cache and the Hugging Face hub cannot be reached; {advice}")

    def tokenizer(self, repo: str, *, download: bool) -> Path | None:
        """The folder of a repository's tokenizer: from the cache, or (download) the hub; None if neither has it."""
        cached = self._cached(repo, "main")
        if cached is not None and has_tokenizer(cached.folder):
            return cached.folder
        if not (download and self.reachable):
            return None
        folder = self._download(repo, "main", ["config.json", *TOKENIZER_FILES]).folder
        return folder if has_tokenizer(folder) else None

    def _cached(self, repo: str, revision: str) -> Snapshot | None:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            # No pattern: no file is asked for, since most of a repository is never downloaded.
            folder = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[]))
        except LocalEntryNotFoundError:
            return None
        except HFValidationError as error:
            raise HubError(f"{repo!r} is not the name of a hub repository (owner/name)") from error
        return Snapshot(folder, folder.name)

    def _list_files(self, repo: str, revision: str) -> list[str]:
        from huggingface_hub import HfApi

        info = self._ask(repo, lambda: HfApi(endpoint=self.endpoint).model_info(repo, revision=revision, timeout=10))
        return [file.rfilename for file in info.siblings or []]

    def _download(self, repo: str, revision: str, files: Sequence[str]) -> Snapshot:
        from huggingface_hub import snapshot_download

        def download() -> str:
            return snapshot_download(repo, revision=revision, endpoint=self.endpoint, allow_patterns=list(files))

        folder = Path(self._ask(repo, download))
        return Snapshot(folder, folder.name)

    def _ask(self, repo: str, request: Any) -> Any:
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        try:
            return request()
        except GatedRepoError as error:
            raise HubError(f"{repo}: its owner must grant access first; accept the terms on its hub page") from error
        except RevisionNotFoundError as error:
            raise HubError(f"{repo}: no such revision on the hub") from error
        except RepositoryNotFoundError as error:
            raise HubError(f"{repo}: no such model on the hub (or it is private)") from error
        except Exception as error:  # what the client raises depends on its version's HTTP library
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise HubError(f"{repo}: the download failed ({reason})") from error


def _is_usable(folder: Path, *, config: bool) -> bool:
    try:
        find_weight_files(folder)
    except CheckpointError:
        return False
    return (folder / "config.json").is_file() or not config


def choose_files(names: Sequence[str], repo: str) -> list[str]:
    """The files of a repository to download: configuration, tokenizer, and its weights in one format only."""
    root = [name for name in names if "/" not in name]
    wanted = [name for name in root if name in ("config.json", *TOKENIZER_FILES)]
    for weights in ("model.safetensors", "pytorch_model.bin"):
        if weights in root:
            return [*wanted, weights]
        if f"{weights}.index.json" in root:
            stem, suffix = weights.split(".")
            shards = [name for name in root if name.startswith(f"{stem}-") and name.endswith(f".{suffix}")]
            return [*wanted, f"{weights}.index.json", *shards]
    others = [name for name in root if name.endswith((".safetensors", ".pth", ".pt"))]
    final = [name for name in others if name.endswith("final.pth")]
    chosen = final or [name for name in others if name.endswith(".safetensors")] or others
    if not chosen:
        raise HubError(f"{repo}: no weights in a known format; its files: {', '.join(root) or 'none'}")
    return [*wanted, *chosen]
