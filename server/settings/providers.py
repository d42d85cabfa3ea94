"""The settings of identity providers. What they mean together is checked where the providers are made."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from server.settings.types import FilePath, OneOrigin, PluginSettings, RoleRules


class ProviderSettings(BaseSettings):
    """Who else may say who somebody is. docs/identity-providers.md has more on each option.

    By itself it reads the options of a provider in a file (`server/sign_in/provider_file.py`). What they leave out must
    not come from the environment.
    """

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is given, and nothing else; `Settings` reads the environment."""
        return (init_settings,)

    public_url: OneOrigin | None = Field(
        default=None,
        description="The origin under which browsers reach the gateway, to which identity providers send them back, "
        "and where people approve devices: `https://llm.example`. Default: that of the request.",
    )
    provider_sign_up: bool = Field(
        default=True,
        description="Give an account to people whom an identity provider signs in for the first time.",
    )
    provider_default_role: str = Field(
        default="user",
        description="The role of new accounts of identity providers, and at a provider with `…_ROLES` of everybody "
        "whom none of them names.",
    )
    provider_max_pending: int = Field(
        default=100,
        ge=1,
        description="Sign-ins with identity providers that may be begun at one address (of IPv6, at its first 64 bits) "
        "and wait to be finished, for ten minutes at most; more are refused.",
    )
    providers: PluginSettings = Field(
        default_factory=dict[str, dict[str, str]],
        description="Identity providers of other packages, with the settings of each, as JSON: "
        '`{"htpasswd": {"file": "/etc/users"}}`.',
    )

    providers_file: FilePath | None = Field(
        default=None,
        description="A file in TOML with more identity providers, any number of each kind; docs/identity-providers.md "
        "has an example.",
    )

    oidc_issuer: str | None = Field(
        default=None,
        description="The issuer of an OpenID Connect provider, which people can sign in with then. Register "
        "`https://…/auth/oidc/callback` there.",
    )
    oidc_client_id: str = Field(default="", description="The client id that the provider gave for this gateway.")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="The client secret; none for a public client."
    )
    oidc_name: str = Field(
        default="oidc",
        description="The provider's name, in addresses and with linked accounts: do not change it later.",
    )
    oidc_label: str = Field(default="Single sign-on", description="The provider's name for people, on the form.")
    oidc_scopes: str = Field(default="openid profile email", description="The scopes to ask for, with blanks between.")
    oidc_username_claim: str = Field(default="preferred_username", description="The claim with the user name.")
    oidc_groups_claim: str = Field(
        default="groups", description="The claim with the groups: a name, or a path such as `realm_access.roles`."
    )
    oidc_roles: RoleRules = Field(
        default_factory=dict[str, str],
        description='The role of each group, as JSON, the first that matches: `{"admins": "admin", "staff": '
        '"developer"}`. It is applied at each sign-in.',
    )
    oidc_role_required: bool = Field(default=False, description="Refuse people whom none of these roles is for.")
    oidc_logout: bool = Field(
        default=True,
        description="Whether signing out leads to the provider, to sign out there, too, if it has a place for that. "
        "Register `https://…/` as post-logout redirect URI there.",
    )
    oidc_ca_file: FilePath | None = Field(
        default=None,
        description="PEM certificates of authorities for the provider's certificate. Default: the system's.",
    )
    oidc_timeout: float = Field(default=10, gt=0, le=30, description="Seconds for one request to the provider.")

    github_client_id: str | None = Field(
        default=None, description="The client id of an OAuth app of GitHub, which people can sign in with then."
    )
    github_client_secret: SecretStr | None = Field(default=None, description="The client secret of that app.")
    github_url: str = Field(default="https://github.com", description="GitHub, or a GitHub Enterprise Server.")
    github_label: str = Field(default="GitHub", description="The name for people, on the form.")
    github_roles: RoleRules = Field(
        default_factory=dict[str, str],
        description='The role of each organization or team, as JSON: `{"acme/ops": "admin", "acme": "developer"}`.',
    )
    github_role_required: bool = Field(default=False, description="Refuse people whom none of these roles is for.")

    ldap_url: str | None = Field(
        default=None,
        description="A directory whose people can sign in with their password then: `ldaps://ldap.example`. Needs the "
        "extra `ldap`.",
    )
    ldap_starttls: bool = Field(default=False, description="Encrypt an `ldap://` connection before anything is sent.")
    ldap_ca_file: FilePath | None = Field(
        default=None,
        description="PEM certificates of authorities for the directory's certificate. Default: the system's.",
    )
    ldap_base: str = Field(default="", description="Where people are: `ou=people,dc=example,dc=org`.")
    ldap_bind_dn: str | None = Field(default=None, description="Who searches for people. Default: nobody, anonymously.")
    ldap_bind_password: SecretStr | None = Field(default=None, description="The password of who searches.")
    ldap_user_filter: str = Field(
        default="(uid={username})",
        description="Finds a person's entry. Active Directory: `(sAMAccountName={username})`.",
    )
    ldap_user_dn: str | None = Field(
        default=None, description="Bind as this name at once: `uid={username},ou=people,dc=example,dc=org`."
    )
    ldap_subject_attribute: str = Field(
        default="entryUUID", description="What never changes of a person. Active Directory: `objectGUID`."
    )
    ldap_username_attribute: str = Field(
        default="uid", description="The user name. Active Directory: `sAMAccountName`."
    )
    ldap_email_attribute: str = Field(default="mail", description="The e-mail address.")
    ldap_email_is_verified: bool = Field(
        default=False, description="Whether only administrators can change e-mail addresses; others are not taken over."
    )
    ldap_display_name_attribute: str = Field(default="displayName", description="The name for people.")
    ldap_member_of_attribute: str = Field(default="memberOf", description="Lists the groups of a person.")
    ldap_group_base: str | None = Field(default=None, description="Search for groups below this name, too.")
    ldap_group_filter: str = Field(
        default="(|(member={dn})(uniqueMember={dn}))", description="Finds the groups of a person."
    )
    ldap_group_name_attribute: str = Field(default="cn", description="The name of a group.")
    ldap_roles: RoleRules = Field(
        default_factory=dict[str, str],
        description='The role of each group, as JSON: `{"cn=ops,ou=groups,dc=example,dc=org": "admin"}`.',
    )
    ldap_role_required: bool = Field(default=False, description="Refuse people whom none of these roles is for.")
    ldap_timeout: float = Field(default=5, gt=0, le=30, description="Seconds for each step of a sign-in.")
    ldap_max_connections: int = Field(default=4, ge=1, description="Sign-ins at the directory at once; others wait.")
    ldap_label: str = Field(default="LDAP", description="The directory's name for people.")
