"""No kind of boilerplate eats an honest caption; boilerplate of many forms and languages is known. Lists, not rules."""

import pytest

from curation.methods.boilerplate import PATTERNS, boilerplate

HONEST = (
    """
Mario 64|Marble 12|Decanter 4|Sepia 3|Sam 5|Super Mario 64|Mars 2020|Mars 4|Marathon 10|Maya 8|Mayor 5|Market 21
Juneau 4|Julia 7|Julian 12|Juno 9|Augusta 5|Octopus 8|Octagon 8|Novel 3|November Rain|Decimal 10|December roses
Decoy 2|Janet 12|Janus 2|Febreze 2|Apricot 6|Aprilia 50|Seppuku 3|September Song|Octavia 2|Nova 3|Decade 80
Declan 4|Marigold 3|12 Marbles|3 Maples|5 Marys|10 Decks|7 Seps|2 Octopuses|4 Junipers|8 Augers|6 Novels
12 Juniors|9 Marchers|20 Mayans|Set 5|Set of 12|May flower|March of the Penguins|The Long March|April showers
june bug|Sam|Sam 7|Sam Smith|Sam 64|Kif 3|Kiffer 2|Scanner 3|Scanian landscape 4|Scandinavia 2|Vida 5|Video 64
Videogame 8|Pict 9|Pictish stone 3|Imgur 5|Imperial 12|Dsquared 2|Pixel 7|Pixel 8 Pro|Avatar 2|Line 4|The Line
The Unknown|The Blank Page|Dotty|A fig|fig|Figs|fig tree|Fig jam|Figaro|Figment 2|Bilder einer Ausstellung
Bildungsroman|Bildhauer 3|Fotograf bei der Arbeit|Foton 3|Imagine|Imagine 2|Imagination 5|Picturesque 3|Photon 9
Photosynthesis|Iconic 3|Icons of the 80s|Logos 3|Logotype|Banneret|Testament 2|Testarossa 512|Filet 3|Titleist 3
Spacerock|Thumbelina 2|Nan|Nan bread|nan khatai|Nil desperandum|Homer 3|Home Alone 2|Homecoming 5|Next of kin
Nextel 5|Upstream 8|Backgammon|Topaz 4|Top Gun|Top hat|Lasting 2|Menura 3|Searchlight 5|Gopher 2|Go-kart|Goya 12
Printmaking|Close-up of a bee|Helpmann 2|Aboutaleb|Cartier 3|Feedback 5|Clicker 5|Tap|Tapir|tap dancing|Press
Press 3|printing press|Touch and go|Touchstone 2|Hovercraft 8|Click beetle|Pin|Pint 3|Pinball|Post|Post-it note
fence post|Postman Pat|Post it|Find Nemo|Finding Nemo|Save the whale|Save me|Join hands|Follow me
Follow the leader|Like father like son|Likeness 4|Share a coke|Shared space|Sharepa 3|Tweety 3|Twitterer
Pinterest board of roses|Googleplex 3|Facebook headquarters in Menlo Park|Fabaceae 2019|Fabaceae|Facade 2020
Cafe 2000|Decade 2000|Beefcafe|Deadbeef steak|Accede 1999|Effaced coin 1066|Vitamin B.12|St. Moritz|Mr. Bean
Dr. No|No. 5|Chanel No. 5|Apollo 11|Boeing 747|Airbus A380|iPhone 12|Windows 95|Ford T|Nintendo 64|Atari 2600
Commodore 64|Area 51|Route 66|Catch-22|Fahrenheit 451|District 9|Ocean's 11|Se7en|Blink-182|U2|Final Fantasy VII
Sonic 2|Tekken 3|FIFA 98|Halo 3|Portal 2|Doom 2016|Tetris 99|Street Fighter 2|Resident Evil 4|Pong|K2
Everest 8848|Symphony No. 9|Opus 27|Louis XIV|Henry 8|Elizabeth II|John Paul II|Psalm 23|Genesis 1|Leica M6
Rosa canina 3|Quercus robur|Acer palmatum 5|Amanita muscaria|Marchantia 4|Mayapple|Septoria|Decumaria 2
Junonia 3|Janvier Dupont|Maiglöckchen|Mai Tai 5|Juniper 2|Julienne 5|Aoudad 2|Avrilla|Okto 5|Dezember-Aster
Marzipan 3|Maifeld 4|Enero Perez 3|Magazin 5|Magnolie 4|Ottone 3|Settebello 3|Genua 12|Lugano 3|Agora 5
Outback 4|Maine 5|Mayonnaise 2|Maison 4|Imagen de la Virgen|Imagerie d'Épinal|Fotografía de un gato
Foto von Berlin|Immagine della Madonna|Bild des Monats Mai|Сова на ветке|Март 8|Мария 12|Майор 5|Фотограф 3
Картина маслом|Образ 3|Домовой 2|赤い花|写真家の肖像|画像処理|图片社的门口|照片墙|月光 3|日光 5|月見団子
정월 대보름|이미지 메이킹|사진관|گل سرخ|صورة القمر|عکس گل|फूल|चित्रकार|รูปภาพดอกไม้|hình ảnh bông hoa
gambar kucing|resim çerçevesi|görsel sanatlar|Kuvasz|Kuvasz 3|Képeslap|Obrazek świętej Anny|Zdjęcie kota
Εικόνα της Παναγίας|חתול שחור|Mustafa 3|Eylül 7. sokak|Mart 3 kedi|Maja desnuda|Maja 2|Majorca 4|Mars rover
Mars bar 2|Mars Attacks|planche 3|Décor 4|Décembre noir|Janus|Marcus 4|Martha 3|Mark 4|Mary 2|Marten 3|Martini 5
Marimba 2|Maroon 5|Marvel 616
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

BOILERPLATE = {
    "date": """2004-08-25|2004-08-25T23:29:46Z|2004-08-25 23:29|25/8/04|25.08.2004|8/25/2004
Aug 25 2004|Aug. 25, 2004|August 25th, 2004|August 25|25 Aug 2004|25 August|25th of August 2004|3rd May 2001
May 5|Sept 3, 1999|September 2010|Wed Aug 25 23:29:46 2004|Wednesday, 25 August 2004
August 25, 2004 at 10:15 pm|25 août 2004|1er mai 2004|3 mars 1999|12 décembre|25. August 2004|12. März
3. Mai 2010|Samstag, 3. Mai 2010|25 de agosto de 2004|5 de mayo|12 de março de 2011|agosto de 2004
25 agosto 2004|12 maggio 1998|25 augustus 2004|12 maart|25 sierpnia 2004|25 августа 2004 г.|9 мая
2004年8月25日|8月25日|2004年8月|2004년 8월 25일|25 أغسطس 2004|25 Ağustos 2004|MAY 5 2001""",
    "camera_name": """DSC_0001|DSC 0001|DSCN1234|DSCF0042|IMG_2043|IMG-20200101-WA0003|IMG_20200101_101112
IMG_20200101_HDR|img 0001|IMGP1234|_MG_1234|MVI_0001|PXL_20210203_101112|GOPR0001|DJI_0042|CIMG0123|HPIM1234
SAM_0123|SAM 0123|PICT0001|KIF_0123|WP_20140503|P1010023|Screenshot 2020-01-02|Screenshot_20200102|Scan0001
scan_001|IMG_0001_edited""",
    "file_name": """cat.jpg|IMG_2043.JPG|a b.jpeg|logo-final.svg|x.png|photo.webp|scan.tiff|index.html
doc.pdf|клипарт.png""",
    "url": """http://a.test/b|https://a.test|www.example.com|example.com|photos.example.co.uk/x
foo.de""",
    "click": """click to enlarge|Click here|click|tap to zoom
Click on the image to see a larger version|Press to enlarge|enlarge image|view full size|Please click here
cliquez pour agrandir|Cliquez sur l'image pour l'agrandir|haga clic para ampliar|clic para ampliar
clique para ampliar|clicca per ingrandire|klik om te vergroten|zum Vergrößern klicken|Klicken zum Vergrößern
kliknij, aby powiększyć|нажмите, чтобы увеличить|点击放大|クリックで拡大|büyütmek için tıklayın|클릭하면 확대""",
    "generic": """image|Image 3|the image|picture #7|Picture 34|photo|Photo 2 of 9|my photo|untitled
Untitled-1|[image]|icon|logo|banner|spacer|Figure 2|Fig. 3|slide 3 of 12|placeholder|N/A|null|nan|NaN|avatar
no image|Bild|Bild 3|Foto 12|ohne Titel|unbenannt|sans titre|imagen|Imagen 4|sin título|imagem|sem título
immagine|senza titolo|afbeelding 2|naamloos|zonder titel|bez tytułu|zdjęcie|obrázek|bez názvu|billede
uden titel|namnlös|kuva|kép|resim|isimsiz|изображение|Фото 3|без названия|εικόνα|χωρίς τίτλο|תמונה|ללא כותרת
صورة|بدون عنوان|تصویر|चित्र|hình ảnh|รูปภาพ|gambar|图片|图片 3|无标题|圖片|画像|無題|写真|이미지|사진
제목 없음""",
    "navigation": "Home|next >|« Previous|Back to top|Search|Read more|Contact us|Menu|Skip to content",
    "social": """share on twitter|Follow us on Facebook|pin it|facebook|share via e-mail|Share
Tweet this|join us|our Facebook page""",
    "number": "12|34.5|#7|(3)|12 / 40|$9.99|100%|007|1984",
    "hex": """5d41402abc4b2a76b9719d911017c592|550e8400-e29b-41d4-a716-446655440000|0x853b2b0a
hash(0x853b2b0)""",
    "advert": "buy now!!!|50% off today|Order now|free shipping on all shoes",
}
KNOWN = [(kind, text) for kind, texts in BOILERPLATE.items() for text in texts.replace("\n", "|").split("|")]


def test_no_kind_eats_an_honest_caption():
    assert len(HONEST) > 300
    eaten = {text: kind for text in HONEST if (kind := boilerplate(text, tuple(PATTERNS)))}
    assert eaten == {}


@pytest.mark.parametrize("kind", PATTERNS)
def test_boilerplate_is_known_by_its_kind(kind):
    missed = [text for name, text in KNOWN if name == kind and boilerplate(text, (kind,)) is None]
    assert missed == []
