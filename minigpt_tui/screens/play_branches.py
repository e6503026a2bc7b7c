"""The branches of the text on the Play screen: a tree that is walked through, forks, and single steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.events import DescendantFocus

from engine.config import SamplingParams
from engine.errors import MiniGPTError
from engine.inference.stream import Token
from engine.worker.protocol import Started
from minigpt_tui.actions import by_id, hints
from minigpt_tui.branches import Branch
from minigpt_tui.screens.play_replay import PlayReplay
from minigpt_tui.settings import drawn_seed
from minigpt_tui.status_text import sentence

if TYPE_CHECKING:
    from minigpt_tui.widgets.branch_tree import BranchTree

SPELLED_FROM = 72
"""From so many columns on the lower border says it in full."""


class PlayBranches(PlayReplay):
    """A tree of texts, one of which is shown."""

    _tree: BranchTree | None = None  # mounted when it is first opened
    _steps_waiting = 0

    @property
    def cursor_position(self) -> int | None:
        """The place in the text that is looked at, counted in tokens; None where none is."""
        return None

    # Forks.

    def fork_at(self, position: int, token: int | None = None) -> None:
        """Begin a branch with the tokens before a place, and write on from there with the same seed.

        The noise of a place is the same in all branches of a seed, so they differ only where something else does.

        Args:
            position: The place, counted from the start of the prompt.
            token: What is to stand there; None to draw it.
        """
        self._fork(position, token, self.writing.seed)

    def _fork(self, position: int, token: int | None, seed: int | None) -> None:
        self._end_text()
        writing = self.writing
        position = max(0, min(position, writing.length))
        if not self._same_model and (token is not None or position < writing.length):
            self.say(f"another model wrote this text: {by_id('choose_model').shown} chooses it, to fork inside")
        elif token is None:
            self._fork_behind(position, None, seed)
        elif found := self._at_hand(position, token):
            self._fork_behind(position, found, seed)
        else:
            self.run_worker(self._look_up(position, token, seed), group="fork", exclusive=True)

    def _at_hand(self, position: int, token: int) -> Token | None:
        """What is known of a token in the place of another that was drawn."""
        writing = self.writing
        index = position - len(writing.prompt_tokens)
        if not 0 <= index < len(writing.trace):
            return None
        drawn = writing.trace.token(index)  # the likeliest first
        for rank, other in enumerate(drawn.top, 1):
            if other.token == token:
                known = rank if drawn.rank else 0  # a server told no entropy: neither is known then
                return Token(token, position, "", other.text, other.logprob, rank=known, entropy=drawn.entropy)
        return None

    async def _look_up(self, position: int, token: int, seed: int | None) -> None:
        """Ask the model how likely a token was, and fork with it."""
        branch, tokens = self.branches.current, self.writing.tokens()
        try:
            found = await self._ask_about((*tokens[:position], token))
        except MiniGPTError as error:
            self.tell("It does not fork there", sentence(error), hints(["fork"]))
            return
        if self.branches.current is branch and self.writing.tokens() == tokens:
            self._fork_behind(position, found, seed)

    async def _ask_about(self, tokens: tuple[int, ...]) -> Token:
        """What the model says of the last of these tokens.

        Raises:
            MiniGPTError: It says nothing.
        """
        answer = await self._engine.inspect(
            tokens,
            len(tokens) - 1,
            model=self.wanted_model,
            device=self.device,
            precision=self.precision,
            params=self._session.params,
            top=1,
        )
        own = next(alternative for alternative in answer.distribution if alternative.token == tokens[-1])
        rank, place = answer.rank or 0, len(tokens) - 1
        return Token(own.token, place, "", own.text, own.logprob, rank=rank, entropy=answer.entropy)

    def _fork_behind(self, position: int, chosen: Token | None, seed: int | None) -> None:
        """Write on behind a place, or behind a token that was chosen for it."""
        writing = self.writing
        tokens = (*writing.tokens()[:position], *([chosen.token] if chosen else []))
        if position < len(writing.prompt_tokens):  # inside the prompt: of its tokens nobody knows the texts

            def begin_anew(event: Started, params: SamplingParams) -> None:
                self._begin(event.prompt, event, params)

            self._write("", seed, tokens, begin_anew)
        elif not self._same_model:
            self._write(writing.document.text(), seed, resume=self._resume_anew)
        else:

            def part(event: Started, params: SamplingParams) -> None:
                self._part(position, event, params, chosen)

            self._write(writing.prompt, seed, tokens, part)

    def _part(self, position: int, event: Started, params: SamplingParams, chosen: Token | None) -> None:
        """A branch begins with what stands before a place."""
        before = self.branches.current
        offset = self.writing.offset_at(position)
        self.writing.truncate(position)
        self.writing.resume(event, params, forced=chosen)
        if before is not None:
            self.branches.part_from(before, position, offset)

    def action_fork(self, anew: bool) -> None:
        """Fork at the cursor, or at the end.

        Args:
            anew: Whether with a new seed.
        """
        if self.writing.is_empty:
            self.say("there is nothing to fork yet")
            return
        position = self.cursor_position
        if position is None:
            position = self.writing.length
        if anew:
            self._fork(position, None, drawn_seed())
        elif self._is_written(position):
            self.say(f"that text is there already, with this seed; {by_id('fork_anew').shown} draws a new one")
        else:
            self.fork_at(position)

    def _is_written(self, position: int) -> bool:
        """Whether a branch has what would be written from a place on: its seed and its settings are the same."""
        writing, here = self.writing, self.branches.current
        wanted = _draws(self._session.params)
        if self._live.running or here is None or not self._same_model:
            return False
        if position < writing.length:
            later = [setting.params for setting in writing.settings if setting.position > position]
            if all(_draws(params) == wanted for params in (writing.params_at(position), *later)):
                return True
        owner = self.branches.owner(here, position)
        return any(
            (other.parent, other.position, other.facts.seed) == (owner.id, position, writing.seed)
            and other.base is None
            and len(other.part.trace) > 0
            # Behind a token that somebody chose they begin one later.
            and [setting.position for setting in other.part.settings[:1]] == [position]
            and all(_draws(setting.params) == wanted for setting in other.part.settings)
            for other in self.branches
            if not other.hidden
        )

    # Steps.

    def step(self, token: int | None = None) -> None:
        """Write one token: the one that the text would go on with, or one that was chosen.

        Args:
            token: What was chosen; None to draw it.
        """
        if self._live.is_step and token is None:
            self._steps_waiting += 1  # keys are faster than the engine: none is lost
            return
        if self._live.running or token is not None or not self._same_model:
            self._end_text()
        writing, seed = self.writing, self.writing.seed
        if writing.is_empty:
            prompt = self._prompt.text

            def begin(event: Started, params: SamplingParams) -> None:
                self._begin(prompt, event, params)
                self.writing.stepping = True

            self._write(prompt, self._session.params.seed, resume=begin, limit=1)
        elif token is not None:
            self.run_worker(self._step_to(token), group="fork", exclusive=True)
        elif self._same_model:
            self._write(writing.prompt, seed, writing.tokens(), self._step_on, limit=1)
        else:

            def go_on_anew(event: Started, params: SamplingParams) -> None:
                self._resume_anew(event, params)
                self.writing.stepping = True

            self._write(writing.document.text(), seed, resume=go_on_anew, limit=1)

    def _step_on(self, event: Started, params: SamplingParams) -> None:
        self.writing.resume(event, params, stepping=True)

    async def _step_to(self, token: int) -> None:
        """Let a chosen token stand at the end; the next step goes on behind it."""
        writing = self.writing
        tokens = (*writing.tokens(), token)
        try:
            found = await self._ask_about(tokens)
        except MiniGPTError as error:
            self.tell("That is no step", sentence(error), hints(["step"]))
            return

        def go_on(event: Started, params: SamplingParams) -> None:
            writing.resume(event, params, forced=found, stepping=True)

        if writing.tokens() == tokens[:-1]:
            self._write(writing.prompt, writing.seed, tokens, go_on, limit=0)

    def action_step_token(self) -> None:
        """Write one token."""
        self.step()

    def _text_ends(self, error: MiniGPTError | None) -> None:
        super()._text_ends(error)
        waiting, self._steps_waiting = self._steps_waiting, 0
        if self.writing.stepping and error is None:
            if self.writing.finish_reason == "stop":
                self.say("the model ends the text here")
            elif waiting:
                self.step()
                self._steps_waiting = waiting - 1

    # The tree.

    def _branches_change(self) -> None:
        super()._branches_change()
        self._show_tree()
        self._show_progress()

    def _place_words(self) -> str:
        """Which branch of how many is shown."""
        lines = [line.branch for line in self.branches.lines()]
        current = self.branches.current
        if current not in lines or len(lines) < 2:
            return ""
        of = " of " if self.size.width >= SPELLED_FROM else "/"
        return f"branch {lines.index(current) + 1}{of}{len(lines)}"

    def _refresh_figures(self) -> None:
        stale = self._figures_stale
        super()._refresh_figures()
        if stale and self._live.running:
            self._show_tree()

    def _show_tree(self) -> None:
        if self._tree is not None and self.has_class("-branches-open"):
            from minigpt_tui.widgets.branch_tree import rows_of

            rows = rows_of(self.branches, self.writing)
            current = self.branches.current
            with self.prevent(type(self._tree).Selected):
                self._tree.show(rows)
                self._tree.selected = str(current.id) if current else ""
            self._tree.border_subtitle = hints(["branch_delete", "branch_undo", "branch_close"])
            self._tree.border_title = Content(f"Branches · {len(rows)}" if rows else "Branches")

    def action_branches(self) -> None:
        """Show the tree and go there; from there, hide it."""
        if self._tree is not None and self.has_class("-branches-open") and self._tree.has_focus:
            self._close_tree()
            return
        self.remove_class("-sampling-open", "-next-open")
        self.add_class("-branches-open")
        if self._tree is None:
            from minigpt_tui.widgets.branch_tree import BranchTree

            self._tree = BranchTree(id="branches")
            self._tree.empty_text = "\n Nothing is written yet."
            self.query_one("#side").mount(self._tree)
        self.call_after_refresh(self._go_to_tree)

    def _go_to_tree(self) -> None:
        if self._tree is not None:
            self._show_tree()
            self._tree.focus()

    def _close_tree(self) -> None:
        self.remove_class("-branches-open")
        self._text.focus()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """On a narrow terminal the tree lies over the text, and goes when that is wanted."""
        if self.has_class("-narrow") and event.widget in (self._text, self._prompt):
            self.remove_class("-branches-open")

    def on_branch_tree_selected(self, event: BranchTree.Selected) -> None:
        """Show the branch at once."""
        event.stop()
        if event.key:
            self._go(self.branches[int(event.key)])

    def on_branch_tree_open_requested(self, event: BranchTree.OpenRequested) -> None:
        """Go to its text."""
        event.stop()
        self._go(self.branches[int(event.key)])
        self._text.focus()

    def _go(self, branch: Branch) -> None:
        """Show another branch, from where it parts on; what is being written ends there and stays."""
        if branch is self.branches.current:
            return
        was_writing = self._live.streaming
        self._end_text()
        self._keep()
        self._show_branch(branch)
        document, text = self.writing.document, self._text
        row = document.row_at(min(branch.offset, document.length))
        if row < text.max_scroll_y:
            text.scroll_to(y=max(0, row - 2), animate=False)
        self._branches_change()
        if was_writing:
            self.say(f"the other was stopped where it was; {by_id('continue').shown} goes on with it to the letter")

    def action_parent_branch(self) -> None:
        """Go to the branch that this one parts from."""
        current = self.branches.current
        if current is None or (parent := self.branches.parent(current)) is None:
            self.say("this branch parts from no other")
        else:
            self._go(parent)

    def action_next_branch(self) -> None:
        """Go to the next branch that parts from the same."""
        current = self.branches.current
        if current is None:
            lines = self.branches.lines()
            following = lines[-1].branch if lines else None
        else:
            following = self.branches.sibling(current)
        if following is None:
            self.say("there is no other branch from there")
        else:
            self._go(following)

    def action_delete_branch(self) -> None:
        """Delete the chosen branch; those that part from it stay."""
        branch = self.branches.current
        if branch is None:
            return
        self._end_text()
        self._keep()
        beside = self.branches.near(branch)
        self.branches.delete(branch)
        if beside is not None:
            self._go(beside)
        else:
            self.action_clear()
        self.say(f"deleted; {by_id('branch_undo').shown} brings it back")
        self._save_soon()

    def action_undo_branch(self) -> None:
        """Bring back the branch that was deleted last."""
        branch = self.branches.undo()
        if branch is None:
            self.say("nothing was deleted in this session")
        else:
            self._go(branch)
            self.say("it is back")


def _draws(params: SamplingParams) -> SamplingParams:
    """What of settings says which token comes next."""
    draws: SamplingParams = params.replace(seed=None, max_new_tokens=1, stop=())
    return draws
