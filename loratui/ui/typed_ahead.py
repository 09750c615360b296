"""Keys one after another: what a key opens gets the keys that are typed after it.

Over a slow line keys come in bursts, `/cat` as one piece. Textual sends each to what has the focus when it
is read, long before `/` has opened its field, so that `c`, `a` and `t` would be commands of the room.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.message_pump import MessagePump
from textual.timer import Timer

PATIENCE_S = 5.0
"""A key that takes longer, because something holds up the loop, no longer holds the next ones back."""
_LOOK_S = 0.1


class TypedAhead(App[None]):
    """An app in which a key is answered before the next one is read.

    A mark follows a key along its way, from what has the focus up to the app, and then what the key's action
    sent along the same way (a field that says it is done). Where that ends with the same focus as before, the
    key is answered, else the mark goes the new way, too. Text typed into a field goes there without waiting.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._typed: deque[events.Key | events.Paste] = deque()
        self._way: list[MessagePump] = []
        """Where the mark of the key at work still has to pass; empty when none is at work."""
        self._start: DOMNode | None = None
        """Where the mark began its last way, None on the first one."""
        self._waited = 0.0
        self._look: Timer | None = None
        super().__init__(*args, **kwargs)

    async def on_event(self, event: events.Event) -> None:
        """Hold a key, or what is pasted, back while a key is at work."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._way:
            self._typed.append(event)
        else:
            await self._answer(event)

    async def _answer(self, event: events.Key | events.Paste) -> None:
        """Send a key on its way, and a mark behind it unless it is text for a field."""
        if isinstance(event, events.Paste) or self._is_text(event):
            await super().on_event(event)
            return
        self._way = [*self._end().ancestors_with_self]
        self._start, self._waited = None, 0.0
        if self._look is None:
            self._look = self.set_interval(_LOOK_S, self._look_after, pause=True)
        self._look.reset()
        self._look.resume()
        await super().on_event(event)
        self._pass_on()

    def _is_text(self, event: events.Key) -> bool:
        focused = self.focused
        return focused is not None and focused.check_consume_key(event.key, event.character)

    def _pass_on(self) -> None:
        """Put the mark behind what waits at the next place; places that are gone are left out."""
        while self._way:
            place = self._way[0]
            if place.is_running and place.call_later(self._passed, place):
                return
            self._way.pop(0)

    async def _passed(self, place: MessagePump) -> None:
        """The mark is through a place; at the app the key is answered."""
        if not self._way or self._way[0] is not place:
            return  # of a key that was given up
        if len(self._way) > 1:
            self._way.pop(0)
            self._pass_on()
        elif self._start is not self._end():
            self._start = self._end()
            self._way = [*self._start.ancestors_with_self]
            self._pass_on()
        else:
            # Once more, as a widget that asked for the focus meanwhile has the app give it later.
            self.call_later(self._settle)

    def _end(self) -> DOMNode:
        """Where keys go to."""
        return self.focused or self.screen

    async def _settle(self) -> None:
        """The next key, unless the focus went elsewhere at the last."""
        if not self._way:
            return
        if self._start is self._end():
            await self._next()
        else:
            await self._passed(self._way[0])

    async def _next(self) -> None:
        """The key at work is answered: take the next, up to one that needs its time."""
        self._way.clear()
        if self._look is not None:
            self._look.pause()
        while self._typed and not self._way:
            await self._answer(self._typed.popleft())

    async def _look_after(self) -> None:
        """Help a mark on whose place has gone under it, and give up one that takes too long."""
        self._waited += _LOOK_S
        if self._way and not self._way[0].is_running:
            self._pass_on()
        if self._way and self._waited > PATIENCE_S:
            await self._next()
