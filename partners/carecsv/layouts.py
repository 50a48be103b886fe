"""The files of the standard (ケアプランデータ連携標準仕様 4.1, 令和6年10月): their ids, and the columns of those taken.

Lengths are in bytes of cp932; none: the standard gives none.
"""

from __future__ import annotations

from dataclasses import dataclass

INSURER, INSURED = "保険者番号", "被保険者番号"


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    most_bytes: int | None = None
    is_required: bool = False


def _columns(text: str) -> tuple[Column, ...]:
    """Of lines `name length`, with `!` behind the length where it is required and `-` for no length."""
    rows = [line.split() for line in text.split("\n") if line.strip()]
    return tuple(
        Column(name, None if length.rstrip("!") == "-" else int(length.rstrip("!")), length.endswith("!"))
        for name, length in rows
    )


CLIENTS = "UPHOSOKU"
"""利用者補足情報: who the clients are."""

_SERVICES = "\n".join(
    f"{number}サービス種類コード 2\n{number}支給限度基準額 7\n{number}合計単位数 7\n{number}限度超単位数 7"
    for number in "１２３４５６７８９"
)
COLUMNS = _columns(
    f"""
    CSVバージョン 6!
    {INSURER} 6!
    {INSURED} 10!
    居宅サービス計画作成（変更）日 8!
    利用者氏名フリガナ -
    利用者氏名 -
    利用者性別 1
    利用者生年月日 8
    利用者郵便番号 8
    利用者住所１ -
    利用者住所２ -
    利用者電話番号 15
    認定日 8
    限度額適用開始年月日 8
    限度額適用終了年月日 8
    認定状況区分 1
    要介護状態変更日 8
    要介護状態区分 2
    区分支給限度基準額 7
    {_SERVICES}
    合計限度超単位数 7
    入所前月迄利用日数 5
    入所累積利用日数 5
    前回要介護状態区分 2
    同意書受付業者 10
    更新業者コード 10
    識別子 1
    対象年月 6
    """
)
"""Of CLIENTS."""

PLANS = "UPPLAN"
"""第6表 サービス利用票【予定】: what the care manager has planned for clients of one month."""
PLAN_DELETIONS = "DLTPLAN"
"""Of which clients the month's plan is taken back."""
MONTH, DAY, STARTS, ENDS = "対象年月", "サービス利用日", "サービス開始時刻", "サービス終了時刻"
COUNT, SERVICE, PROVIDER = "サービス回数", "サービスコード", "サービス事業者コード"
PLAN_COLUMNS = _columns(
    f"""
    CSVバージョン 6!
    {INSURER} 6!
    {INSURED} 10!
    作成年月日 8!
    {MONTH} 6!
    プラン担当業者コード 10
    プラン担当者名 -
    単位数 6
    前月までの短期入所利用日数 5
    {DAY} 8!
    日割対象日 31
    {STARTS} 4!
    {ENDS} 4!
    {COUNT} 2!
    {SERVICE} 6!
    TAISコード 12
    福祉用具届出コード 12
    用具名称（機種名） -
    明細判別コード -
    {PROVIDER} 10!
    サービス事業所名 -
    サテライト枝番 2
    ３０日超区分 1!
    更新業者コード 10
    識別子 1
    """
)
"""Of PLANS."""
DELETION_COLUMNS = _columns(
    f"""
    CSVバージョン 6!
    {INSURER} 6!
    {INSURED} 10!
    削除対象年月 6!
    """
)
"""Of PLAN_DELETIONS."""
