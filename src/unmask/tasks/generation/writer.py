"""Texts for prompts, in either way of writing, spelt out."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from unmask.tasks.generation import left_to_right, parallel
from unmask.tasks.generation.answer import Written
from unmask.tasks.generation.learning import Lessons
from unmask.tasks.generation.options import DecodeOptions
from unmask.tasks.generation.prompt import Pieces, Prompt
from unmask.tasks.generation.rows import Draft, Pen
from unmask.tasks.generation.stream import parts


@dataclass(frozen=True)
class Writer:
    """Writes what prompts ask for."""

    lessons: Lessons
    pieces: Pieces

    def texts(
        self, pen: Pen, prompts: Sequence[Prompt], decode: DecodeOptions
    ) -> list[tuple[Written, ...]]:
        """The texts for each prompt, best first.

        An empty source has an empty text. A text that has no room left is what was given.
        """
        prompts = [self.lessons.begin(prompt, decode) for prompt in prompts]
        willing = [i for i, prompt in enumerate(prompts) if prompt.open]
        write = parallel.write if decode.mode == "parallel" else left_to_right.write
        found = write(pen, self.pieces, [prompts[i] for i in willing], decode) if willing else []
        drafts: dict[int, list[Draft]] = dict(zip(willing, found, strict=True))
        for i, prompt in enumerate(prompts):
            drafts.setdefault(i, [Draft(prompt.begun.tolist(), ended=prompt.empty)])
        return [
            tuple(self._written(draft, prompt) for draft in drafts[i])
            for i, prompt in enumerate(prompts)
        ]

    def stream(
        self, pen: Pen, prompt: Prompt, decode: DecodeOptions
    ) -> Generator[str, None, Written]:
        """One text in parts, and returned whole.

        Beams and parallel rounds know theirs at the end: it is one part.
        """
        begun = self.lessons.begin(prompt, decode)
        if decode.beams > 1 or decode.mode == "parallel" or not begun.open:
            ((text,),) = self.texts(pen, [prompt], decode)
            yield text.text
            return text
        last = Draft([])

        def spelt() -> Iterator[str]:
            nonlocal last
            for (last,) in left_to_right.steps(pen, self.pieces, [begun], decode):
                yield self.pieces.spell(last.ids, begun.unknown)

        yield from parts(spelt())
        return self._written(last, begun)

    def _written(self, draft: Draft, prompt: Prompt) -> Written:
        return Written(
            text=self.pieces.spell(draft.ids, prompt.unknown),
            pieces=tuple(str(self.pieces.text.tokenizer.id_to_token(i)) for i in draft.ids),
            log_probability=draft.log_p,
            unfinished=not draft.ended,
        )
