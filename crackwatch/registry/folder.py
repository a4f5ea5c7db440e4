"""The models folder: one folder a model, two pointers, one lock; knows nothing of what is in them.

::

    models/
    ├── champion                    the id in use, one line of text
    ├── previous                    the id before it
    ├── .lock                       held by whoever changes anything here
    ├── .promotion                  only while the two pointers, and a card, change
    ├── .staging-<random>/          only while a model is made
    ├── .fresh-<random>             only while a pointer or a card is replaced
    └── <id>/                       card.json and the files whose sha256 it holds

The pointers are text and not symbolic links: they survive a copy to any file system and through any
archive, and nothing can be opened *through* one before its id has been checked.

Nothing of a model is visible until its folder, whole and synced, is renamed into place; what an
interrupted run left behind is removed by the next holder of the lock.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from crackwatch import locking
from crackwatch.errors import ModelError, ModelMissing, ModelTampered
from crackwatch.registry.card import (
    CARD_FILE,
    MODEL_FILE,
    SCALE,
    THRESHOLD,
    TILED_THRESHOLD,
    Card,
    Decision,
    Figures,
    Threshold,
    TiledThreshold,
    checked_id,
    is_id,
    read_card,
)
from crackwatch.registry.files import (
    cannot,
    files_below,
    read_small,
    replace,
    sha256_of,
    sync_tree,
)
from crackwatch.registry.promotion import Promotion, decided
from crackwatch.syncing import fsync_path

_CHAMPION = "champion"
_PREVIOUS = "previous"
_LOCK = ".lock"
_PROMOTION = ".promotion"
_STAGING_PREFIX = ".staging-"
_FRESH_PREFIX = ".fresh-"  # of a file that is about to replace another

_MAX_POINTER_BYTES = 256
_MAX_PROMOTION_BYTES = 16 * 1024 * 1024  # a decision names what it rests on, as a card does


class Registry:
    """The models of one station.

    Reading needs no lock: pointers and folders appear whole. Whatever changes something takes the
    lock itself, and may be called inside ``with registry.lock()`` as well. Use an instance from one
    thread.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock_depth = 0

    # ------------------------------------------------------------------------------- reading

    def ids(self) -> list[str]:
        """Every model, oldest first; a missing folder holds none."""
        try:
            with os.scandir(self.folder) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if is_id(entry.name) and entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise cannot("read", self.folder, exc) from exc

    def champion(self) -> str | None:
        """The id in use; None before the first one. Raises ModelTampered if it is no id."""
        return self._pointer(_CHAMPION)

    def previous(self) -> str | None:
        """The id that ``rollback`` would make champion. Raises ModelTampered if it is no id."""
        interrupted = self._promotion()
        if (
            interrupted is not None
            and interrupted.old is not None
            and interrupted.new == self._legible_champion()
        ):
            return interrupted.old
        return self._pointer(_PREVIOUS)

    def folder_of(self, model_id: str) -> Path:
        """Where a model's files are. Raises ModelMissing if there is no such model."""
        folder = self.folder / checked_id(model_id)
        try:
            there = folder.is_dir() and not folder.is_symlink()
        except OSError as exc:
            raise cannot("read", folder, exc) from exc
        if not there:
            raise ModelMissing(
                f"{self.folder}: no model {model_id}",
                "'crackwatch models list' shows what there is.",
            )
        return folder

    def card(self, model_id: str) -> Card:
        """A model's card. Raises ModelMissing, ModelTampered or ModelError (see ``read_card``)."""
        begun = self._promotion()  # before the card: what is written into it meanwhile is there
        folder = self.folder_of(model_id)
        card = read_card(folder)
        if card.id != model_id:
            raise ModelTampered(
                f"{folder / CARD_FILE}: is the card of another model, {card.id}",
                f"Restore {folder} from a copy, or use another model.",
            )
        if (
            begun is not None
            and begun.decision is not None
            and begun.decision not in card.decisions
            and begun.new == model_id == self._legible_champion()
        ):
            return decided(card, begun.decision)
        return card

    def card_stamp(self, model_id: str) -> tuple[int, int, int]:
        """Other numbers whenever the card was replaced; costs one stat. Raises ModelError."""
        file = self.folder_of(model_id) / CARD_FILE
        try:
            found = file.stat()
        except OSError as exc:
            raise cannot("read", file, exc) from exc
        return found.st_mtime_ns, found.st_ino, found.st_size

    def verify(self, model_id: str) -> Card:
        """The card, once every file was found to be what the card says; changes nothing.

        Raises ModelMissing, or ModelTampered naming the first file that is missing, added or
        changed.
        """
        card = self.card(model_id)
        folder = self.folder_of(model_id)
        present = files_below(folder)
        present.discard(CARD_FILE)
        remedy = (
            f"Restore {folder} from a copy, or go back with 'crackwatch models rollback'; "
            "'crackwatch init' reinstalls a starter model whose folder was removed."
        )
        for name in sorted(card.files.keys() - present):
            raise ModelTampered(f"{folder / name}: is missing, though the card lists it", remedy)
        for name in sorted(present - card.files.keys()):
            raise ModelTampered(f"{folder / name}: is not in the model's card", remedy)
        if MODEL_FILE not in card.files:
            raise ModelTampered(f"{folder / CARD_FILE}: lists no {MODEL_FILE}", remedy)
        for name, expected in sorted(card.files.items()):
            if sha256_of(folder / name) != expected:
                raise ModelTampered(
                    f"{folder / name}: is not the file that was published (its sha256 differs "
                    "from the card's)",
                    remedy,
                )
        return card

    # ------------------------------------------------------------------------------ changing

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder against every other process; waits for nobody.

        Makes the folder if need be, and clears away what an interrupted run left behind. May be
        nested. Raises LockedError naming the holder's pid.
        """
        with contextlib.ExitStack() as held:
            if self._lock_depth == 0:
                file = self.folder / _LOCK
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    held.enter_context(locking.held(file, f"the models folder {self.folder}"))
                    self._clear_leftovers()
                except OSError as exc:
                    raise cannot("lock", file, exc) from exc
            self._lock_depth += 1
            try:
                yield
            finally:
                self._lock_depth -= 1

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the models' file system, to make a model in; takes the lock.

        Whatever is still there at the end is removed: only ``publish`` keeps it.
        """
        with self.lock():
            folder = self.folder / f"{_STAGING_PREFIX}{secrets.token_hex(8)}"
            try:
                folder.mkdir()
            except OSError as exc:
                raise cannot("make", folder, exc) from exc
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, card: Card) -> str:
        """Makes the files of a ``staging`` folder a model, all at once; never promotes it.

        Hashes every file into the card, writes ``card.json``, syncs, and renames the folder into
        place. Returns the id. Raises ModelError if the id is taken or the folder is incomplete; the
        registry is then as it was.
        """
        if staged.parent != self.folder or not staged.name.startswith(_STAGING_PREFIX):
            raise ValueError(f"{staged} was not made by staging()")
        with self.lock():
            names = files_below(staged) - {CARD_FILE}
            if MODEL_FILE not in names:
                raise ModelError(f"{staged}: holds no {MODEL_FILE}", "Train the model again.")
            target = self.folder / card.id
            if os.path.lexists(target):
                raise ModelError(
                    f"{target}: there is a model of that id already", "Publish under another id."
                )
            files = {name: sha256_of(staged / name) for name in sorted(names)}
            published = card.model_copy(update={"files": files})
            try:
                (staged / CARD_FILE).write_text(published.to_json(), encoding="utf-8")
                sync_tree(staged)
                # Nobody else can make the target meanwhile: the lock is ours. Were it a folder
                # with anything in it, rename would refuse all the same.
                staged.rename(target)
                fsync_path(self.folder)
            except OSError as exc:
                raise cannot("publish", target, exc) from exc
        return card.id

    def promote(self, model_id: str, decision: Decision | None = None) -> None:
        """Makes a model the champion, and the champion the previous one; again, changes nothing.

        Its files are verified first. ``decision`` is in its card from the moment that it is the
        champion, and not before: whatever ends this call, ``card`` never tells of a promotion that
        did not happen, nor keeps silent about one that did. Raises ModelMissing, ModelTampered or
        LockedError.
        """
        with self.lock():
            self.verify(model_id)
            champion = self._legible_champion()
            if model_id != champion:
                self._swing(Promotion(champion, model_id, decision))
            elif decision is not None:
                self.decide(model_id, decision)

    def rollback(self, decision: Decision | None = None) -> str:
        """Swaps champion and previous; twice, changes nothing. Returns the new champion's id.

        ``decision`` is in that one's card from then on, as with ``promote``. Raises ModelMissing where there is nothing to go back to, ModelTampered if it was changed.
        """
        with self.lock():
            previous = self.previous()
            if previous is None:
                raise ModelMissing(
                    f"{self.folder}: there is no previous model to go back to",
                    "Choose one with 'crackwatch models promote ID'; 'crackwatch models list' "
                    "shows the ids.",
                )
            self.verify(previous)
            self._swing(Promotion(self._legible_champion(), previous, decision))
            return previous

    def set_threshold(
        self,
        model_id: str,
        threshold: Threshold,
        *,
        decided_by: str,
        reason: str,
        figures: Figures | None = None,
    ) -> Card:
        """Gives a published model another threshold, and remembers the old one; its new card.

        Raises ModelMissing, ModelTampered or LockedError; the card is then as it was.
        """
        with self.lock():
            decision = _decision(THRESHOLD, decided_by, reason, figures)
            change = {"old": self.card(model_id).threshold, "new": threshold}
            return self.decide(model_id, decision.model_copy(update=change))

    def set_tiled(
        self,
        model_id: str,
        tiled: TiledThreshold,
        *,
        decided_by: str,
        reason: str,
        figures: Figures | None = None,
    ) -> Card:
        """The same for the threshold of photographs; that of single pictures stays."""
        with self.lock():
            decision = _decision(TILED_THRESHOLD, decided_by, reason, figures)
            change = {"old_tiled": self.card(model_id).tiled, "new_tiled": tiled}
            return self.decide(model_id, decision.model_copy(update=change))

    def undo_threshold(
        self, model_id: str, *, decided_by: str, reason: str = "undone"
    ) -> Decision | None:
        """Takes back what was last decided of either threshold; None where nothing ever was.

        That is a decision as well: a second time, it is taken back itself.
        """
        with self.lock():
            kinds = (THRESHOLD, TILED_THRESHOLD)
            found = [each for each in self.card(model_id).decisions if each.what in kinds]
            if not found:
                return None
            last = found[-1]
            back = {
                "old": last.new,
                "new": last.old,
                "old_tiled": last.new_tiled,
                "new_tiled": last.old_tiled,
            }
            decision = _decision(last.what, decided_by, reason).model_copy(update=back)
            self.decide(model_id, decision)
            return decision

    def set_scale(
        self, model_id: str, mm_per_px: float | None, *, decided_by: str, reason: str
    ) -> Card:
        """Says of a published model at which scale its pictures were, or that nobody knows."""
        with self.lock():
            before: Figures = {"before": self.card(model_id).mm_per_px}
            decision = _decision(SCALE, decided_by, reason, before, mm_per_px)
            return self.decide(model_id, decision)

    def decide(self, model_id: str, decision: Decision) -> Card:
        """Adds a decision to a model's card; one with a new threshold makes it the model's own.

        The files are verified first. The card is replaced whole: a reader sees the old one or the
        new one. Raises ModelMissing, ModelTampered or LockedError.
        """
        with self.lock():
            changed = decided(self.verify(model_id), decision)
            self._replace(self.folder_of(model_id) / CARD_FILE, changed.to_json())
            return changed

    # ------------------------------------------------------------------------------ pointers

    def _legible_champion(self) -> str | None:
        """The champion, or None where its pointer holds nonsense: it is about to be replaced."""
        try:
            return self.champion()
        except ModelTampered:
            return None

    def _swing(self, promotion: Promotion) -> None:
        """Changes both pointers; the moment ``champion`` is replaced is the moment of decision.

        ``.promotion`` says beforehand what ``previous`` and the new champion's card will be, so that
        an interruption between them loses none.
        """
        if promotion.old is not None or promotion.decision is not None:
            self._replace(self.folder / _PROMOTION, f"{promotion.to_text()}\n")
        self._write_pointer(_CHAMPION, promotion.new)
        self._finish_promotion()

    def _finish_promotion(self) -> None:
        interrupted = self._promotion()
        if interrupted is None:
            return
        if self._legible_champion() == interrupted.new:
            if interrupted.old is not None:
                self._write_pointer(_PREVIOUS, interrupted.old)
            if interrupted.decision is not None:
                self._write_down_what_card_tells(interrupted.new)
        file = self.folder / _PROMOTION
        try:
            file.unlink()
            fsync_path(self.folder)
        except OSError as exc:
            raise cannot("remove", file, exc) from exc

    def _write_down_what_card_tells(self, model_id: str) -> None:
        try:
            card = self.card(model_id)
        except ModelError:
            # Gone or damaged since. It has nothing to remember by, and must not be in the way of
            # whoever takes the lock to go back to another model.
            return
        self._replace(self.folder / model_id / CARD_FILE, card.to_json())

    def _promotion(self) -> Promotion | None:
        text = read_small(self.folder / _PROMOTION, _MAX_PROMOTION_BYTES)
        return None if text is None else Promotion.of_text(text)

    def _pointer(self, name: str) -> str | None:
        file = self.folder / name
        text = read_small(file, _MAX_POINTER_BYTES)
        if text is None:
            return None
        if not is_id(text):
            raise ModelTampered(
                f"{file}: does not hold the id of a model",
                "Write one with 'crackwatch models promote ID'; 'crackwatch models list' shows "
                "the ids.",
            )
        return text

    def _write_pointer(self, name: str, text: str) -> None:
        self._replace(self.folder / name, f"{text}\n")

    def _replace(self, target: Path, text: str) -> None:
        replace(target, text, self.folder / f"{_FRESH_PREFIX}{secrets.token_hex(8)}")

    def _clear_leftovers(self) -> None:
        for entry in list(self.folder.iterdir()):
            if entry.name.startswith(_STAGING_PREFIX):
                shutil.rmtree(entry)
            elif entry.name.startswith(_FRESH_PREFIX):
                entry.unlink()
        self._finish_promotion()


def _decision(
    what: str,
    decided_by: str,
    reason: str,
    figures: Figures | None = None,
    mm_per_px: float | None = None,
) -> Decision:
    """One that is taken now."""
    return Decision(
        what=what,
        decided_at=datetime.now(UTC),
        decided_by=decided_by,
        reason=reason,
        figures=figures or {},
        mm_per_px=mm_per_px,
    )
