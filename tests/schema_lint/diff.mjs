// What has changed for clients since the last release. What breaks them needs a line under "### Breaking" in CHANGELOG.md.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { CriticalityLevel, diff } from "@graphql-inspector/core";
import { buildSchema } from "graphql";

const git = (...parts) => execFileSync("git", parts, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });

function lastRelease() {
  try {
    return git("describe", "--tags", "--abbrev=0").trim();
  } catch {
    return null;
  }
}

const release = lastRelease();
if (release === null) {
  console.log("There is no release yet that the schema could break.");
  process.exit(0);
}
const before = buildSchema(git("show", `${release}:schema.graphql`));
const now = buildSchema(readFileSync("../../schema.graphql", "utf8"));
const breaking = (await diff(before, now)).filter((change) => change.criticality.level === CriticalityLevel.Breaking);
const unreleased = readFileSync("../../CHANGELOG.md", "utf8").split(/^## /m)[1] ?? "";
for (const change of breaking) console.log(`breaks clients of ${release}: ${change.message}`);
if (breaking.length && !unreleased.includes("### Breaking")) {
  console.error('Say what to do about it under "### Breaking" in CHANGELOG.md, or leave the schema as it was.');
  process.exit(1);
}
