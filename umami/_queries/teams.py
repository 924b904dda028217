"""Teams and their members."""

from typing import Final, Literal

from pydantic import ConfigDict, RootModel

from umami._calls import both
from umami._events import fields
from umami._http.messages import Flow
from umami.models import Member, Table, Team

from .arguments import one_of
from .changes import Changes, below
from .describing import described
from .query import V2

Role = Literal["team-manager", "team-member", "team-view-only"]
_MEMBERS_SINCE: Final = (2, 10)


class Created(RootModel[tuple[Team, Member] | Team]):
    """What Umami answers to a new team: the team and its owner's membership; before 2.10 the team alone."""

    model_config = ConfigDict(defer_build=True)


class Teams(Changes):
    """The teams of a client."""

    @described
    def _teams(self) -> Flow[Table[Team]]:
        """Return the teams of the account.

        Returns:
            A table of teams.

        Example:
            ```python
            for row in umami.teams():
                print(row.name)
            ```
        """
        return (yield from self._listing("teams()", Table[Team], "/teams", "/me/teams", since=V2))

    @described
    def _team(self, team_id: str) -> Flow[Team]:
        """Return a team.

        Args:
            team_id: The team's id.

        Returns:
            The team.

        Example:
            ```python
            print(umami.team(team_id).name)
            ```
        """
        return (yield from self._found("team", "/teams", team_id, Team))

    @described
    def _create_team(self, name: str) -> Flow[Team]:
        """Make a team, whose owner is the account.

        Args:
            name: Its name, at most 50 characters.

        Returns:
            The team.

        Example:
            ```python
            team = umami.create_team("Shop")
            umami.create_website("Shop", "shop.example.com", team_id=team.id)
            ```
        """
        body = {"name": fields.limited("name", name, 50)}
        created: Created = yield from self._changed("create_team()", "POST", "/teams", body, Created)
        return created.root[0] if isinstance(created.root, tuple) else created.root

    @described
    def _update_team(self, team_id: str, *, name: str) -> Flow[Team]:
        """Change a team's name.

        Args:
            team_id: The team's id.
            name: The new name, at most 50 characters.

        Returns:
            The team.

        Example:
            ```python
            umami.update_team(team.id, name="Shop and blog")
            ```
        """
        body = {"name": fields.limited("name", name, 50)}
        return (yield from self._changed("update_team()", "POST", _path(team_id), body, Team))

    @described
    def _delete_team(self, team_id: str, *, confirm: str) -> Flow[None]:
        """Delete a team. This cannot be undone.

        Transfer its websites first: nobody but an administrator has access to those that it still has.

        Args:
            team_id: The team's id.
            confirm: The team's name, or its id if it has none, so that no other one is
                deleted by mistake.

        Example:
            ```python
            umami.delete_team(team.id, confirm="Shop")
            ```
        """
        yield from self._deleted("team", "/teams", team_id, confirm, Team)

    @described
    def _members(self, team_id: str) -> Flow[Table[Member]]:
        """Return the members of a team. This needs Umami 2.10 or later.

        Args:
            team_id: The team's id.

        Returns:
            A table of members, with their `role`, and the name in `user.username`.

        Example:
            ```python
            for row in umami.members(team.id):
                print(row.user.username, row.role)
            ```
        """
        path = f"{_path(team_id)}/users"
        return (yield from self._listing("members()", Table[Member], path, since=_MEMBERS_SINCE))

    @described
    def _add_member(self, team_id: str, user_id: str, role: Role = "team-member") -> Flow[Member]:
        """Make an account a member of a team. This needs Umami 2.10 or later.

        Args:
            team_id: The team's id.
            user_id: The account's id.
            role: `team-manager`, `team-member` or `team-view-only`.

        Returns:
            The member.

        Example:
            ```python
            umami.add_member(team.id, user_id, "team-view-only")
            ```
        """
        body = {"userId": fields.text("user_id", user_id), "role": one_of("role", role, Role)}
        path = f"{_path(team_id)}/users"
        return (yield from self._changed("add_member()", "POST", path, body, Member, since=_MEMBERS_SINCE))

    @described
    def _update_member(self, team_id: str, user_id: str, *, role: Role) -> Flow[Member]:
        """Change the role of a member of a team. This needs Umami 2.10 or later.

        Args:
            team_id: The team's id.
            user_id: The account's id.
            role: `team-manager`, `team-member` or `team-view-only`.

        Returns:
            The member.

        Example:
            ```python
            umami.update_member(team.id, user_id, role="team-manager")
            ```
        """
        body = {"role": one_of("role", role, Role)}
        path = _member_path(team_id, user_id)
        return (yield from self._changed("update_member()", "POST", path, body, Member, since=_MEMBERS_SINCE))

    @described
    def _remove_member(self, team_id: str, user_id: str) -> Flow[None]:
        """Take an account out of a team; the account stays. This needs Umami 2.10 or later.

        Args:
            team_id: The team's id.
            user_id: The account's id.

        Example:
            ```python
            umami.remove_member(team.id, user_id)
            ```
        """
        path = _member_path(team_id, user_id)
        yield from self._made("remove_member()", "DELETE", path, since=_MEMBERS_SINCE)

    @described
    def _join_team(self, access_code: str) -> Flow[Member]:
        """Make the account a member of a team.

        Args:
            access_code: The team's `accessCode`, which its owner knows.

        Returns:
            The member.

        Example:
            ```python
            umami.join_team(os.environ["TEAM_CODE"])
            ```
        """
        body = {"accessCode": fields.limited("access_code", access_code, 50)}
        return (yield from self._changed("join_team()", "POST", "/teams/join", body, Member))

    # Each description's two functions.

    teams, teams_async = both(_teams)
    team, team_async = both(_team)
    create_team, create_team_async = both(_create_team)
    update_team, update_team_async = both(_update_team)
    delete_team, delete_team_async = both(_delete_team)
    members, members_async = both(_members)
    add_member, add_member_async = both(_add_member)
    update_member, update_member_async = both(_update_member)
    remove_member, remove_member_async = both(_remove_member)
    join_team, join_team_async = both(_join_team)


def _path(team_id: str) -> str:
    return below("/teams", "team_id", team_id)


def _member_path(team_id: str, user_id: str) -> str:
    return below(f"{_path(team_id)}/users", "user_id", user_id)
