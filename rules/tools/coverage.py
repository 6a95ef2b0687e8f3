"""Write `docs/coverage.md`: every article of the law, its duty, and the rules that check it.

    python rules/tools/coverage.py

The rules come from the pack (what each cites under `law`), the duties and the reasons why some have
no rule from the table below. The script fails where an article of the pack is missing from it.
"""

from __future__ import annotations

from pathlib import Path

from moderator.claims.rules import RulePack, load_rules

PENALTY = "a penalty, not a duty"
LIABILITY = "liability after the fact, not a duty of the stream"
PLATFORM = "a duty of the platform, not of the stream"
SCOPE = "says what the law covers; nothing to find in a stream"

DUTIES: dict[str, tuple[str, str]] = {
    "cn.ad_law.2": ("what an advertisement is, who answers for it", SCOPE),
    "cn.ad_law.3": ("true, lawful, healthy in form", ""),
    "cn.ad_law.4": ("no false or misleading content", ""),
    "cn.ad_law.8": ("performance, origin, price, promise, gifts stated accurately and clearly", ""),
    "cn.ad_law.9": ("no state symbols, no state organs, no absolute terms, no vulgarity …", ""),
    "cn.ad_law.10": ("nothing that harms minors or disabled people", ""),
    "cn.ad_law.11": ("data and quotations true, with their source", ""),
    "cn.ad_law.12": ("patents with number and kind; none that is pending or void", ""),
    "cn.ad_law.13": ("no disparaging of others", ""),
    "cn.ad_law.14": ("recognisable as an advertisement", ""),
    "cn.ad_law.15": ("no advertising of controlled and prescription drugs", ""),
    "cn.ad_law.16": (
        "drugs, devices, clinics: no promise, no cure rate, no comparison, no endorser",
        "",
    ),
    "cn.ad_law.17": ("no disease and no medical language for other goods", ""),
    "cn.ad_law.18": ("health food: no promise, no disease, no endorser; its statement", ""),
    "cn.ad_law.19": ("no such goods sold as health education", ""),
    "cn.ad_law.20": ("nothing that replaces breast milk", ""),
    "cn.ad_law.21": ("pesticide, feed, veterinary drugs: no promise, no rate, no endorser", ""),
    "cn.ad_law.22": ("no tobacco", ""),
    "cn.ad_law.23": (
        "alcohol: no inducing, no driving, no effects (drinking in view: not read from frames)",
        "",
    ),
    "cn.ad_law.24": ("education: no promise, no examiners, no beneficiaries", ""),
    "cn.ad_law.25": ("investment: no promise of return; a risk warning", ""),
    "cn.ad_law.26": ("homes: no gain, no travel times, area gross or net", ""),
    "cn.ad_law.27": ("seeds and livestock: nothing unverifiable, no promise, no income", ""),
    "cn.ad_law.28": ("what makes an advertisement false", ""),
    "cn.ad_law.33": ("another's name or image only with written consent", ""),
    "cn.ad_law.38": ("endorsers speak from fact and use; none under ten", ""),
    "cn.ad_law.39": ("no advertising in schools and on school things", ""),
    "cn.ad_law.40": (
        "nothing that urges children; media for minors",
        "which media are for minors is not in the stream",
    ),
    "cn.ad_law.45": ("platforms stop what they know to be unlawful", PLATFORM),
    "cn.ad_law.46": ("review before publication", ""),
    "cn.ad_law.55": ("penalty for false advertising", PENALTY),
    "cn.ad_law.56": ("civil liability", LIABILITY),
    "cn.ad_law.57": ("penalties", PENALTY),
    "cn.ad_law.58": ("penalties", PENALTY),
    "cn.ad_law.59": ("penalties", PENALTY),
    "cn.absolute_guide.2": ("what an absolute term is", ""),
    "cn.absolute_guide.3": (
        "proportion in punishing",
        "a principle for authorities; severities follow it",
    ),
    "cn.absolute_guide.4": (
        "company facts without selling",
        "in a live room something is nearly always on sale; text not verified",
    ),
    "cn.absolute_guide.5": (
        "exempt: attitude, aims, not about the goods",
        "`exemptions.yaml`: service_attitude, aim, not_the_goods",
    ),
    "cn.absolute_guide.6": (
        "exempt: own goods, use, grades, names, prizes, time and place",
        "`exemptions.yaml`: own_goods, how_to_use, graded, name_or_mark, awarded, time_and_place",
    ),
    "cn.absolute_guide.7": (
        "exempt terms must be true all the same",
        "asked for as needs_proof by the rules on rank and sales; text not verified",
    ),
    "cn.absolute_guide.9": ("first and minor use may go unpunished", PENALTY),
    "cn.absolute_guide.10": ("short or little seen use may go unpunished", PENALTY),
    "cn.absolute_guide.11": ("what is never minor", PENALTY),
    "cn.ad_scope_guide.4": ("what is not selling", SCOPE),
    "cn.ad_scope_guide.5": ("what is no medium", SCOPE),
    "cn.ad_scope_guide.6": ("what is no general audience", SCOPE),
    "cn.ad_scope_guide.7": ("mandatory label content", SCOPE),
    "cn.ad_scope_guide.8": ("other laws where it is no advertisement", SCOPE),
    "cn.citation_guide.7": (
        "a citation says what its source says",
        "the source itself is not at hand",
    ),
    "cn.citation_guide.8": ("journal, issue, address of a citation", ""),
    "cn.citation_guide.14": (
        "no distorted or partial quotation",
        "the source itself is not at hand",
    ),
    "cn.citation_guide.17": (
        "data made by AI count as the seller's own",
        "how data were made does not show",
    ),
    "cn.internet_ad.6": ("no tobacco, no prescription drugs, no forbidden goods", ""),
    "cn.internet_ad.7": (
        "review; no changes to what was approved",
        "changes: the approved text is not at hand",
    ),
    "cn.internet_ad.8": ("no such goods sold as health knowledge", ""),
    "cn.internet_ad.9": ("reviews and shared experience with a link are marked 广告", ""),
    "cn.internet_ad.11": (
        "no deceiving clicks",
        "buttons and pages are not read, only what is said and shown",
    ),
    "cn.internet_ad.12": ("media for minors", "which media are for minors is not in the stream"),
    "cn.internet_ad.13": (
        "advertisers keep archives three years",
        "an archive is kept outside the stream",
    ),
    "cn.internet_ad.18": ("the linked page is checked", "the page is not in the stream"),
    "cn.internet_ad.19": ("who is advertiser, agent, endorser", SCOPE),
    "cn.internet_ad.25": ("penalty", PENALTY),
    "cn.anti_unfair.7": ("no passing off", ""),
    "cn.anti_unfair.9": ("no false propaganda on sales, reviews, honours", ""),
    "cn.anti_unfair.11": ("prize sales clear, honest, at most 50,000 yuan", ""),
    "cn.anti_unfair.12": ("no misleading information that harms a competitor", ""),
    "cn.anti_unfair.25": ("penalty", PENALTY),
    "cn.anti_unfair.27": ("penalty", PENALTY),
    "cn.anti_unfair.28": ("penalty", PENALTY),
    "cn.consumer_law.20": ("true and full information, true answers", ""),
    "cn.consumer_law.28": ("sellers at a distance tell who they are, price, risk", ""),
    "cn.consumer_law.45": ("liability of those who recommend", LIABILITY),
    "cn.consumer_law.55": ("threefold damages", LIABILITY),
    "cn.consumer_penalty.6": ("no staged deals, demonstrations, false clearance prices", ""),
    "cn.online_consumer_judicial.10": ("promised damages bind", LIABILITY),
    "cn.online_consumer_judicial.11": ("the shop answers for its hosts", LIABILITY),
    "cn.online_consumer_judicial.12": ("a room that does not show the seller answers as one", ""),
    "cn.online_consumer_judicial.17": ("joint liability", LIABILITY),
    "cn.ecommerce_law.17": ("no invented deals and reviews", ""),
    "cn.ecommerce_law.18": ("results not tied to a profile", PLATFORM),
    "cn.ecommerce_law.19": ("bundles pointed out, never preselected", ""),
    "cn.ecommerce_law.38": ("platform liability", PLATFORM),
    "cn.ecommerce_law.39": ("reviews may not be deleted", PLATFORM),
    "cn.ecommerce_law.85": ("penalty", PENALTY),
    "cn.price_law.13": ("marked prices; nothing beyond them", ""),
    "cn.price_law.14": ("no misleading price means", ""),
    "cn.price_fraud.16": ("compared prices true; else the lowest deal of seven days", ""),
    "cn.price_fraud.17": ("no raising before reducing; no baseless comparison", ""),
    "cn.price_fraud.18": ("gifts with name and number; their worth is their selling price", ""),
    "cn.price_fraud.19": ("no price fraud", ""),
    "cn.price_fraud.20": ("price shown as in the details; promotions as announced", ""),
    "cn.price_fraud.21": (
        "exempt: no intent, better deals, rounding",
        "rounding is allowed for when prices are held against the record",
    ),
    "cn.live_ecommerce.16": ("replays kept three years", PLATFORM),
    "cn.live_ecommerce.17": ("no false information made with AI", ""),
    "cn.live_ecommerce.34": ("no false information made with AI", "see cn.live_ecommerce.17"),
    "cn.live_ecommerce.26": (
        "no forced following, no chains of pages",
        "pages are not in the stream",
    ),
    "cn.live_ecommerce.30": (
        "review before the session",
        "this program is such a review; text not verified",
    ),
    "cn.live_ecommerce.31": ("the chat is looked after", "the chat is not an input"),
    "cn.live_ecommerce.32": ("clear prices", "see price_fraud; text not verified"),
    "cn.live_ecommerce.35": (
        "recommending in one's own name is advertising",
        "see ad_law 16 and 18; text not verified",
    ),
    "cn.live_ecommerce.37": ("an AI host is marked, all the time", ""),
    "cn.live_marketing.17": (
        "hosts are sixteen or older",
        "age is not in the stream; what is said of it is",
    ),
    "cn.live_marketing.18": ("no false data, no unlawful goods, no leading away, no abuse", ""),
    "cn.live_marketing.19": ("advertising duties of rooms and hosts", SCOPE),
    "cn.live_marketing.20": (
        "no streaming from forbidden places",
        "places are not recognised in frames",
    ),
    "cn.live_marketing.21": ("titles, covers, boards, clothes without hints", ""),
    "cn.host_code.14": (
        "what hosts may not show or say",
        "politics and order are left to platform safety; 18 to 26: see ad_law 9",
    ),
    "cn.food_safety.71": ("labels true, no disease", ""),
    "cn.food_safety.73": ("food advertising: no disease", ""),
    "cn.food_safety.75": ("health functions only from the catalogue, registered", ""),
    "cn.food_safety.78": ("label of health food, its statement", ""),
    "cn.food_safety.79": ("health food advertising: its statement, approval", ""),
    "cn.food_safety.140": ("liability", LIABILITY),
    "cn.food_safety_reg.34": ("no false propaganda in lectures and consultations", ""),
    "cn.food_safety_reg.38": ("other food claims no health function", ""),
    "cn.special_ad_review.5": ("what each kind of advertisement must show", ""),
    "cn.special_ad_review.6": (
        "device claims within the registered scope",
        "a registration of another scope proves nothing (docs/rules.md)",
    ),
    "cn.special_ad_review.11": ("urging, gifts, prizes, secret recipes", ""),
    "cn.drug_law.61": ("controlled drugs are not sold online", ""),
    "cn.drug_law.89": ("drug advertising is approved", "see cn.notice.ad_approval"),
    "cn.drug_law.90": ("within the leaflet; other goods speak of no drugs", ""),
    "cn.device_reg.60": ("device advertising within the approved leaflet", ""),
    "cn.cosmetic_reg.16": ("special cosmetics are registered", ""),
    "cn.cosmetic_reg.22": ("effects rest on published evaluation", ""),
    "cn.cosmetic_reg.37": ("labels without medical effect", ""),
    "cn.cosmetic_reg.43": ("no medical effect, nothing false", ""),
    "cn.cosmetic_reg.77": (
        "toothpaste and soap",
        "lawful wording, kept silent by the cosmetic rules",
    ),
    "cn.ai_label.4": ("visible label on AI content", "see cn.ai_label.10 and cn.live_ecommerce.37"),
    "cn.ai_label.5": ("label in the file's metadata", "a live stream carries none"),
    "cn.ai_label.9": ("unlabelled on request", "says that a missing label proves nothing"),
    "cn.ai_label.10": ("users declare AI content; labels stay", ""),
    "cn.minor_protection.53": ("no advertising that harms minors, none in schools", ""),
    "cn.minor_protection.59": ("no tobacco or alcohol for minors; a sign says so", ""),
    "cn.minor_protection.61": ("no hiring under sixteen", "employment does not show in a stream"),
    "cn.minor_protection.76": (
        "no live accounts under sixteen",
        "age is not in the stream; what is said of it is",
    ),
    "cn.minor_online.23": ("a notice before what minors may imitate", ""),
    "cn.minor_online.24": ("services for minors", PLATFORM),
    "cn.trademark_law.14": ("驰名商标 may not be advertised", ""),
    "cn.tobacco_law.18": ("no tobacco in the media", ""),
    "cn.tobacco_reg.65": ("e-cigarettes count as cigarettes", ""),
    "cn.medical_ad_guide.6": ("clinics: praise, comparison, promises are advertising", ""),
    "cn.medical_ad_guide.7": (
        "doctors' health education is none",
        "an exemption; education without goods meets no rule here",
    ),
    "cn.medical_ad_guide.8": ("disguised clinic advertising", ""),
}

HEAD = """# What of the law is checked

Every article of `rules/law/`, what it asks, and the rules that check it; where there is none, why.
The status of each rule is its own: *test* rules are held to their tests and to the corpus of
harmless talk, *experimental* ones to their tests only, and none is *stable* yet. An article marked
† was not read word for word and is never quoted. Written by `rules/tools/coverage.py`.

Rules of `rules/cn/semantic/` repeat, by meaning, what the others find by words; they are left out
of the table unless nothing else checks an article.
"""


def main() -> None:
    pack = load_rules()
    out = Path(__file__).parents[2] / "docs" / "coverage.md"
    out.write_text(table(pack), encoding="utf-8")
    print(f"{len(pack.law)} articles → {out}")


def table(pack: RulePack) -> str:
    """The page, as it should be for `pack`. Raises KeyError for an article without a duty."""
    parts = [HEAD]
    statute = ""
    for key, article in pack.law.items():
        if article.statute != statute:
            statute = article.statute
            parts.append(f"\n## {article.title}\n\n| article | duty | rules |\n|---|---|---|\n")
        duty, why = DUTIES[key]
        name = article.name + ("†" if article.status == "unverified" else "")
        parts.append(f"| {name} | {duty} | {_checked_by(pack, key, why)} |\n")
    return "".join(parts)


def _checked_by(pack: RulePack, key: str, why: str) -> str:
    found = [rule for rule in pack.rules if key in {k.partition("#")[0] for k in rule.law_keys}]
    rules = [rule for rule in found if not rule.semantic_only] or found
    named = ", ".join(
        f"`{rule.id}`" + (" (experimental)" if rule.status == "experimental" else "")
        for rule in rules
    )
    if not named:
        kept = why.startswith(("`", "see ", "lawful", "rounding", "an exemption", "a registration"))
        return why if kept else f"not machine-checkable: {why}"
    return f"{named}; {why}" if why else named


if __name__ == "__main__":
    main()
