"""Words that are no leak: terms of the standard and of vendors in headers. Used by the search.

A patient may be called Head or Siemens. In elements that hold only such terms, these words do not
count as the patient's.
"""

# PS3.3 C.8 and C.7 defined terms, PS3.16 body regions, and reconstruction kernels.
VOCABULARY = frozenset(
    b"""
    abdomen abdomenpelvis abdominal acute adc addition adult angio ankle anterior aorta apex arm
    arterial artery atlas attenuation axial axilla back basic bile biopsy bladder blood body bolus
    bone brain breast bronchus bypass carotid cervical chest circle clavicle clinical cine coccyx
    code colon color combined compressed compression contrast coronal coronary cranial cspine
    decay derived detail diastole diffusion dixon drug duct dynamic ear edge elbow
    emission energy enhanced esophagus expiration
    external extremity eye face fast fat feet femur field fibula finger first flow foot frame full
    gradient gray hand hands head headneck heart heel helical high hip hour humerus image inner
    injection inspiration internal inversion iodine jaw joint kidney knee lateral left leg legs
    lens limb linear liver localizer long loop lower lspine lumbar lung magnitude mandible map mask
    matrix maxilla medial mean median mixed modified monochrome multi myelin native neck negative
    none normal nose orbit original other outer ovary palm pancreas parotid pelvis perfusion phase phantom
    planar plane plate portal positive posterior power primary prone prostate proton pulse quiet
    radial ray rear recovery rest rib ribs right sagittal scalp scout scrotum secondary segment
    sella sharp short shoulder signal single sinus skin skull smooth soft source spin spine spiral
    spleen standard steady step sternum stomach stress sum supine swap system systole table target
    temporal testis thigh thorax throat thumb thymus thyroid tibia time toe tongue tooth topogram
    total tracer trachea transverse tspine tube ultra upper ureter urethra uterus vagina variable
    vascular vein velocity venous ventral vessel view volume water wave wedge whole wholebody
    wrist write young yes zone
    ct mr pt nm cr dx mg xa rf us ot sc io px es rg hd seg reg pr ko sr no hu bq ml axial lat pa ap
    ll rl se gr ir ep rm sk mp ffs ffp hfs hfp hfdr hfdl ffdr ffdl lut mip mpr min max avg rgb std
    """.split()
)

VENDORS = frozenset(
    b"""
    agfa brainlab bruker canon carestream elekta esaote fuji fujifilm general hitachi hologic kodak
    konica marconi medical minolta neusoft philips picker planmeca samsung shimadzu siemens
    toshiba united imaging varian vital healthineers healthcare systems electronics
    """.split()
)

# Names of product lines that are also given names or family names.
MODELS = frozenset(
    b"""
    aera alegra alexion altea amira aquilion artis aurora avanto biograph definition discovery drive
    echelon emotion espree essenza free gemini go infinia ingenia lightspeed lumina magnetom
    mammomat next perspective prisma revolution scope sensation signa skyra sola somatom spectra
    spirit sonata symphony trio verio vero vereos vida vision volume
    """.split()
)

# Roles, titles and placeholders: in a name or ID they do not identify a person.
NON_NAMES = frozenset(
    b"""
    admin anon anonym anonymised anonymized anonymous anonymus default deidentified demo dept
    doctor dont frau herr hospital imaging known mister miss missing mrs name none noname null
    operator patient person phantom physician prof professor radiologist radiology removed service
    system tech technician technologist test unknown unspecified user undefined
    """.split()
)

# Words of many place names, which alone identify none.
PLACE_WORDS = frozenset(
    b"""
    abteilung academic academy allgemeine america american associates austria avenue belgium boulevard
    california canada center central centrale centre centro china city clinic clinica clinical
    clinics clinique college community company corporation county department deutschland diagnostic
    diagnostics diagnostik erlangen federal florida forchheim foundation france gemeinschaft
    general germany gmbh gross group haupt health healthcare heights highway hospital hospitals
    institut institute international italia italy japan kingdom klinik klinikum kliniken
    krankenhaus laboratory limited london medicine medizin medizinische memorial national
    netherlands north northern nuclear nuklearmedizin ospedale paris partners platz poliklinik
    practice praxis private public radiologie radiologische radiologischen radiology regional
    research royal saint sankt school science sciences service services south southern spain
    specialist specialists spital state states station stiftung strasse street suisse
    switzerland technologies technology therapie therapy tokyo town universitaet
    universitaetsklinikum universitaetsmedizin universitair universitaire universitat universitario
    universitatsklinikum universitatsmedizin university united veterans village west western world
    york zentral zentrum
    """.split()
)

# Text of the de-identification attributes, besides what depends on the profile and the project.
OWN_ATTRIBUTE_TEXT = b"""
    adit ps3.15 2026c yes no dcm removed modified unmodified iso_ir 192
    de-identification method longitudinal temporal information
    basic application confidentiality profile clean pixel data recognizable visual features graphics
    structured content descriptors retain full dates option patient characteristics device identity
    institution uids safe private
    113100 113101 113102 113103 113104 113105 113106 113107 113108 113109 113110 113111 113112
"""
