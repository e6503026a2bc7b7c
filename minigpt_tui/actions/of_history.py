"""What can be done on the History screen."""

from __future__ import annotations

from minigpt_tui.actions.action import Action, Where

H_, L_, S_ = Where.HISTORY, Where.ENTRIES, Where.SEARCH

ACTIONS: tuple[Action, ...] = (
    Action("history_search", "slash", "/", "search", "Find texts by pieces of the prompt, the text, the note or a tag.",
           H_, "search"),
    Action("history_replay", "r", "r", "replay", "Write it again in Play, to the letter.", H_, "replay"),
    Action("history_favourite", "f", "f", "favourite", "Mark it as a favourite, or take the mark away.", H_,
           "favourite"),
    Action("history_note", "n", "n", "note", "Write a note to it.", H_, "note"),
    Action("history_tags", "t", "t", "tags", "Give it tags, by which it is found.", H_, "tags"),
    Action("history_copy", "y", "y", "copy", "Copy the text with its prompt.", H_, "copy"),
    Action("history_line", "L", "L", "shell line", "Copy the line that writes it again in a shell.", H_, "copy_line"),
    Action("history_export", "e", "e", "export", "Save the selected texts, or all that were found, to a file.", H_,
           "export"),
    Action("history_select", "space", "space", "select", "Select it, with others, or take it out.", H_, "select"),
    Action("history_delete", "d,delete", "d", "delete", "Delete the selected texts, or this one; u brings back.", H_,
           "delete"),
    Action("history_undo", "u", "u", "undo", "Bring back what was deleted last.", H_, "undo"),
    Action("history_model", "m", "m", "model", "List the texts of one model.", H_, "by_model"),
    Action("history_date", "D", "D", "date", "List the texts of a day, of some days, or since then.", H_, "by_date"),
    Action("history_tag", "T", "T", "by tag", "List the texts that have a tag.", H_, "by_tag"),
    Action("history_favourites", "F", "F", "favourites", "List the favourites alone, or all.", H_, "favourites"),
    Action("history_statistics", "s", "s", "statistics", "How much, how fast and how long: figures and charts.", H_,
           "statistics"),
    Action("history_details", "tab,i", "tab", "text", "Go to the text, to scroll there, or back.", H_, "details"),
    Action("history_back", "escape", "esc", "back", "Close what is open, end the search, or go to the list.", H_,
           "back", False),
    Action("entry_open", "enter", "enter", "open in Play", "Go on with it in Play, as a branch of its own.", L_,
           "open"),
    Action("entry_above", "up", "↑", "text above", "The text above.", L_, "move(-1)", False),
    Action("entry_below", "down", "↓", "text below", "The text below.", L_, "move(1)", False),
    Action("entries_up", "pageup", "pgup", "page up", "A page of texts up.", L_, "page(-1)", False),
    Action("entries_down", "pagedown", "pgdn", "page down", "A page of texts down.", L_, "page(1)", False),
    Action("first_entry", "home", "home", "latest", "The latest text.", L_, "move(-1000000000)", False),
    Action("last_entry", "end", "end", "earliest", "The earliest text.", L_, "move(1000000000)", False),
    Action("search_list", "enter,down,tab", "enter", "to the list", "Go to what was found.", S_, "to_list", False),
)  # fmt: skip
