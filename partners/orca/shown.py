"""What stands in the fields of ORCA's requests and answers, as support may see it (日医標準レセプトソフト API)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from partners.contract import FieldKind, Shown

_FIELDS: Mapping[FieldKind, Iterable[str]] = {
    FieldKind.OPEN: (
        *("Api_Result", "Request_Number", "Response_Number", "Information_Date", "Information_Time", "Base_Date"),
        *("Base_StartDate", "Base_EndDate", "Appointment_Date", "Appointment_Time", "Acceptance_Date"),
        *("Acceptance_Time", "Appointment_Information", "Department_Code", "Physician_Code", "Medical_Information"),
        *("Insurance_Combination_Number", "Patient_Mode", "CreateDate", "UpdateDate"),
    ),
    FieldKind.ID: ("Appointment_Id", "Acceptance_Id"),
    FieldKind.NAME: (
        *("WholeName", "Full_Name", "Physician_WholeName", "Department_WholeName", "Institution_WholeName"),
    ),
    FieldKind.KANA: ("WholeName_inKana", "Kana_Name"),
    FieldKind.NUMBER: ("Patient_ID", "User_Id", "User_Number"),
    FieldKind.BIRTH_DATE: ("BirthDate",),
    FieldKind.ADDRESS: ("Address_ZipCode", "WholeAddress1", "WholeAddress2"),
    FieldKind.PHONE: ("PhoneNumber1", "PhoneNumber2", "CellularNumber"),
    FieldKind.NOTE: ("Appointment_Note", "Api_Result_Message"),
}
SHOWN: Shown = {name: kind for kind, names in _FIELDS.items() for name in names}
