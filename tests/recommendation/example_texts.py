"""Example sentences of domains and of languages other than English."""

TEXTS = {
    "biomedical": [
        "Patients with chronic hepatitis received the inhibitor, and mortality was lower than with placebo.",
        "The tumor cells carry a mutation of the receptor gene that blocks apoptosis in lung tissue.",
        "Serum glucose and cholesterol were measured in the cohort before insulin therapy.",
    ],
    "legal": [
        "The appellant argues that the court erred when it granted the injunction under the statute.",
        "Pursuant to this clause the licensee shall indemnify the licensor against any breach or liability.",
        "The defendant filed a petition, and the judge found that the plaintiff had waived jurisdiction.",
    ],
    "finance": [
        "Quarterly earnings rose as revenue and operating margins beat what analysts had expected.",
        "The company pays for the acquisition with convertible bonds and a loan, and keeps its dividend.",
        "Shares fell after the issuer cut its guidance and investors sold equities for treasury bonds.",
    ],
}
OTHER_LANGUAGES = {
    "German": "Wir fahren am nächsten Wochenende mit den Kindern zum See, weil es in der Stadt viel zu heiß wird. ",
    "Spanish": "El tren sale a las ocho de la mañana y llega a la capital después de cuatro horas de viaje. ",
    "French": "Nous avons mangé une soupe et du pain dans un petit restaurant près de la gare, puis il a plu. ",
    "Russian": "Мы вчера долго искали маленький дом у реки, но так и не нашли дорогу через лес. ",
    "Chinese": "我们昨天在公园里散步，然后去一家小饭馆吃了面条。",
}
