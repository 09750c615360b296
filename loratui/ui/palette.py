"""Every action by name: the palette, fed from the same tables as the keys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from loratui.ui.actions import Action, key_name
from loratui.ui.screens.room import Room

if TYPE_CHECKING:
    from loratui.ui.app import LoratuiApp


class ActionProvider(Provider):
    """Actions of the room, then those of the app."""

    def _actions(self) -> list[tuple[Action, object]]:
        found: list[tuple[Action, object]] = []
        if isinstance(self.screen, Room):
            found += [(action, self.screen) for action in self.screen.ACTIONS]
        found += [(action, self.app) for action in getattr(self.app, "ACTIONS", ())]
        return [(a, node) for a, node in found if a.id != "app.palette" and _possible(a, node)]

    async def discover(self) -> Hits:
        """All of them, while nothing is typed."""
        for action, node in self._actions():
            yield DiscoveryHit(_name(action), partial(self._run, action, node), help=action.help)

    async def search(self, query: str) -> Hits:
        """Those that match."""
        matcher = self.matcher(query)
        for action, node in self._actions():
            score = matcher.match(f"{action.label} {action.help}")
            if score > 0:
                yield Hit(score, _name(action), partial(self._run, action, node), help=action.help)

    async def _run(self, action: Action, node: object) -> None:
        await self.app.run_action(action.action, node)  # type: ignore[arg-type]


def _possible(action: Action, node: object) -> bool:
    """Whether the action has a meaning where the room stands now."""
    name, _, rest = action.action.partition("(")
    if "." in name or not isinstance(node, Room):
        return True
    parameters = tuple(part.strip(" '\"") for part in rest.rstrip(")").split(",") if part.strip())
    return node.check_action(name, parameters) is not False


def _name(action: Action) -> Content:
    keys = " ".join(key_name(key.strip()) for key in action.keys.split(",")) if action.keys else ""
    return Content.assemble(action.label, ("   " + keys if keys else "", "$accent"))


def open_palette(app: LoratuiApp) -> None:
    """Open the palette unless it is open."""
    if not isinstance(app.screen, CommandPalette):
        app.push_screen(CommandPalette(providers=[ActionProvider], placeholder="what do you want to do?"))
